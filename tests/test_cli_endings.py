"""How a job ends: what came of it is said while Ray is still there, since its end may end the process at once."""

from contextlib import contextmanager

import pytest
import ray

from pipeline import cli
from pipeline.errors import BudgetError, ConfigError, RunError, StorageError
from pipeline.runtime import connection as runtime


@pytest.fixture
def at_the_end(capsys, monkeypatch):
    """What stdout and stderr had when Ray was to end."""
    output = []

    @contextmanager
    def connection():
        try:
            yield
        finally:
            output.append(capsys.readouterr())

    monkeypatch.setattr(runtime, "connection", connection)
    return output


BROKEN_OFF = RuntimeError("Error calling __set_name__")
BROKEN_OFF.__cause__ = KeyboardInterrupt()


@pytest.mark.parametrize(
    ("raised", "code", "out", "err"),
    [
        (None, 0, "done\n", ""),
        (KeyboardInterrupt(), 1, "", "job: stopped\n"),
        (BROKEN_OFF, 1, "", "job: stopped\n"),
        (RunError("no room"), 1, "", "job: no room\n"),
        (StorageError("no answer"), 1, "", "job: no answer\n"),
        (ConfigError("no masks"), 2, "", "job: no masks\n"),
        (BudgetError("too many failed", '{"failed": 9}'), 3, '{"failed": 9}\n', "job: too many failed\n"),
    ],
)
def test_what_came_of_the_work_is_said_before_ray_ends(at_the_end, capsys, raised, code, out, err):
    def work(ready):
        assert ready == "ready"
        if raised:
            raise raised
        return "done"

    assert cli.enter("job", lambda: "ready", work, interrupted="stopped") == code
    assert at_the_end == [(out, err)]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 1), (StorageError("no such folder"), 2)])
def test_without_what_it_needs_a_job_does_not_ask_for_ray(capsys, monkeypatch, raised, code):
    def prepare():
        raise raised

    monkeypatch.setattr(ray, "init", pytest.fail)
    assert cli.enter("job", prepare, pytest.fail, interrupted="stopped") == code
    assert capsys.readouterr().err.startswith("job: ")


def test_the_last_line_is_what_came_of_the_work_whatever_ray_prints(capsys, monkeypatch):
    def ray_says(line):
        ray._private.worker.print_to_stdstream({"lines": [line], "pid": "raylet", "is_err": False}, False)

    @contextmanager
    def connection():
        yield
        ray_says("Task f failed. There are infinite retries remaining")

    def work(ready):
        ray_says("a node is lost")
        return "done"

    monkeypatch.setattr(runtime, "connection", connection)
    assert cli.enter("job", lambda: "ready", work, interrupted="stopped") == 0
    printed = capsys.readouterr()
    assert printed.out == "done\n"
    # of a Ray instance that other tests share, anything may come beside
    (line,) = [line for line in printed.err.splitlines() if "a node is lost" in line or "Task f failed" in line]
    assert "a node is lost" in line
