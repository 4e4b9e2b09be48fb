"""infra/nightly without a cluster: dashboards that say what no cluster can be made to say, and the units by systemd."""

import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.helpers.servers import free_port

ROOT = Path(__file__).parents[2]
NIGHTLY = ROOT / "infra/nightly"


def dashboard(states: list[tuple[int, dict[str, Any]]]) -> Callable[[str, str], tuple[int, Any]]:
    """Answers as Ray's does; `states` is what it knows of a submission, one for each time it is asked."""

    def answer(method: str, path: str) -> tuple[int, Any]:
        if path == "/api/version":
            return 200, {"version": "4", "ray_version": ray.__version__, "ray_commit": ""}
        if method == "POST":
            return 200, {"job_id": "", "submission_id": ""}
        return (200, {"logs": ""}) if path.endswith("/logs") else states.pop(0)

    return answer


def job(status: str, code: int | None) -> tuple[int, dict[str, Any]]:
    return 200, {"type": "SUBMISSION", "status": status, "entrypoint": "job", "driver_exit_code": code}


UNKNOWN = 404, dict[str, Any]()


def test_a_run_that_a_restarted_head_has_forgotten_is_tried_once_more(serve: Any, night: str, start: Any) -> None:
    head = serve(dashboard([UNKNOWN, job("RUNNING", None), UNKNOWN, job("RUNNING", None), job("SUCCEEDED", 0)]))
    assert start(head.url, "job") == 0
    name = f"segment-bucket-{night}"
    assert [submission["submission_id"] for submission in head.posted] == [name, f"{name}-try2"]


def test_it_waits_before_it_tries_once_more_since_a_storage_may_be_away_for_minutes(
    serve: Any, start: Any, run_night: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(run_night.time, "sleep", waits.append)
    head = serve(dashboard([UNKNOWN, job("FAILED", 1), job("SUCCEEDED", 0)]))
    assert start(head.url, "job", again_seconds=300) == 0
    assert waits == [300]
    assert "trying once more in 300 s" in capfd.readouterr().out


def test_another_command_under_the_nights_name_is_told_which_flag_keeps_them_apart(
    serve: Any, night: str, start: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    known = dashboard([job("SUCCEEDED", 0)] * 2)
    head = serve(lambda method, path: (500, {}) if method == "POST" else known(method, path))
    assert start(head.url, "another") == 1
    assert f"segment-bucket-{night} is another command, `job`; give another bucket a --name" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("ended", "code", "submitted"),
    [
        (job("FAILED", -9), 1, 2),
        (job("FAILED", None), 1, 2),
        (job("FAILED", 137), 137, 2),
        (job("STOPPED", None), 1, 1),
    ],
)
def test_a_run_without_an_exit_code_of_its_own_ends_with_1(
    ended: Any, code: int, submitted: int, serve: Any, start: Any
) -> None:
    head = serve(dashboard([UNKNOWN, ended, ended]))
    assert start(head.url, "job") == code
    assert len(head.posted) == submitted


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/secret", "secret", "http://secret secret/"])
def test_a_webhook_that_fails_does_not_change_the_exit_code(
    url: str, serve: Any, start: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEBHOOK_URL", url.format(port=free_port()))
    assert start(serve(dashboard([UNKNOWN, job("FAILED", 3)])).url, "job") == 3
    errors = capfd.readouterr().err
    assert "WEBHOOK_URL was not notified" in errors
    assert "secret" not in errors


def test_without_a_dashboard_the_webhook_gets_that(start: Any, webhook: Any, capfd: pytest.CaptureFixture[str]) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    assert start(address, "job", retry_seconds=0) == 1
    assert f"no answer from {address} for 0 s" in capfd.readouterr().err
    assert [(notice["status"], notice["exit_code"]) for notice in webhook.posted] == [("UNKNOWN", 1)]


def sigterm() -> None:
    """To the thread the script runs in, from that of a server it talks to."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def test_a_second_sigterm_ends_the_script_while_it_stops_the_run(
    serve: Any, start: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    job_answer = dashboard([UNKNOWN, *[job("RUNNING", None)] * 100])

    def answer(method: str, path: str) -> tuple[int, Any]:
        if path.endswith(("/logs", "/stop")):  # while it follows the run, and while it stops it
            sigterm()
        return job_answer(method, path)

    assert start(serve(answer).url, "job") == 143
    assert "ended at once" in capfd.readouterr().err


def test_sigterm_while_the_webhook_is_notified_ends_with_143(
    serve: Any, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def notified(method: str, path: str) -> tuple[int, Any]:
        sigterm()
        return 200, {}

    monkeypatch.setenv("WEBHOOK_URL", serve(notified).url)
    assert start(serve(dashboard([UNKNOWN, job("SUCCEEDED", 0)])).url, "job") == 143


def test_a_head_that_never_answers_is_not_waited_for_for_ever(
    run_night: Any, start: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_night, "_ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert start(f"http://127.0.0.1:{mute.getsockname()[1]}", "job", retry_seconds=0) == 1
    assert "timed out" in capfd.readouterr().err


def test_a_refused_token_is_an_error_at_once(serve: Any, start: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert start(serve(lambda method, path: (401, {})).url, "job") == 1
    assert "set RAY_AUTH_MODE=token and the cluster's RAY_AUTH_TOKEN" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("argv", "address", "message"),
    [
        (["--night", "a/b", "job"], "http://x", "--night is 'a/b'"),
        (["--working-dir", "/nowhere", "job"], "http://x", "--working-dir is '/nowhere'"),
        (["job"], "head:6379", "RAY_API_SERVER_ADDRESS is 'head:6379'"),
        ([], "http://x", "entrypoint"),
    ],
)
def test_arguments_that_cannot_be_used_end_with_2(
    argv: list[str],
    address: str,
    message: str,
    run_night: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
    with pytest.raises(SystemExit) as end:
        run_night.main(argv)
    assert end.value.code == 2
    assert message in capfd.readouterr().err


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    for name in ("segment-bucket.service", "segment-bucket.timer"):
        unit = (NIGHTLY / name).read_text().replace("/opt/deeplab-buckets/.venv/bin/python", sys.executable)
        (tmp_path / name).write_text(unit.replace("/opt/deeplab-buckets", str(ROOT)))
    command = [
        "systemd-analyze",
        "verify",
        str(tmp_path / "segment-bucket.service"),
        str(tmp_path / "segment-bucket.timer"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if "segment-bucket" in line] == []


def test_both_commands_of_the_unit_are_of_the_night_on_which_it_was_started(tmp_path: Path) -> None:
    """Though the second begins after midnight where the run has passed it: a step before both notes the day."""
    unit = (NIGHTLY / "segment-bucket.service").read_text().replace("\\\n", "")
    directory, noted = (re.findall(rf"^{name}=-?(.*)$", unit, re.M)[-1] for name in ("RuntimeDirectory", "Environm.*"))
    assert noted.startswith(f"%t/{directory}/")
    (before,) = re.findall(r"^ExecStartPre=(.*)$", unit, re.MULTILINE)
    for written, meant in ((f"%t/{directory}", str(tmp_path)), ("%%", "%"), ("$$", "$")):
        before = before.replace(written, meant)
    days = [f"{datetime.now(UTC):%Y-%m-%d}"]
    subprocess.run(shlex.split(before), check=True)
    days.append(f"{datetime.now(UTC):%Y-%m-%d}")
    (written,) = tmp_path.iterdir()
    assert written.name == Path(noted).name
    assert written.read_text() in {f"NIGHT={day}\n" for day in days}
    commands = re.findall(r"^ExecStart(?:Post)?=(.*)$", unit, re.MULTILINE)
    assert ["--night ${NIGHT}" in command for command in commands] == [True, True]


def test_the_example_of_the_environment_has_what_the_unit_asks_for() -> None:
    asked = set(re.findall(r"(?<!\$)\$\{?(\w+)", (NIGHTLY / "segment-bucket.service").read_text())) - {"NIGHT"}
    given = set(re.findall(r"^(\w+)=", (NIGHTLY / "nightly.env.example").read_text(), re.MULTILINE))
    assert asked == {"INPUT", "OUTPUT", "MODEL", "FLAGS", "MAX_DRIFT", "DRIFT_METRICS"}
    assert given == asked | {"RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "WEBHOOK_URL"}
