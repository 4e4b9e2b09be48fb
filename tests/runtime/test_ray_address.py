"""Which cluster RAY_ADDRESS names; what cannot be one is refused before anything is opened."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import ray

from pipeline.commands.demo import command as demo
from pipeline.commands.evaluate import command as evaluate
from pipeline.commands.search_crf import command as search_crf
from pipeline.commands.segment import command as segment_bucket
from pipeline.commands.train import command as train
from pipeline.errors import ConfigError, RunError
from pipeline.runtime import connection as connection_module
from pipeline.runtime.cluster import connect, connected, named_cluster
from pipeline.runtime.connection import connect_ahead, connection
from pipeline.storage import client_errors

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("value", "named"), [(None, None), ("", None), ("auto", "auto"), ("10.0.0.1:6379", "10.0.0.1:6379")]
)
def test_a_variable_that_is_empty_is_unset(monkeypatch, value, named):
    if value is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", value)
    assert named_cluster() == named
    asked = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options["address"]))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with connected():
        pass
    assert asked == [named or "local"]


@pytest.mark.parametrize(
    ("name", "by_itself", "of_a_person"),
    [("RAY_BACKEND_LOG_LEVEL", "fatal", "info"), ("RAY_idle_worker_killing_time_threshold_ms", "600000", "1000")],
)
@pytest.mark.parametrize("before", ["nothing", "by itself", "of a person"])
def test_the_core_is_set_up_meanwhile_unless_a_person_has_done_it(monkeypatch, name, by_itself, of_a_person, before):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv(name, raising=False)
    set_before = {"nothing": None, "by itself": by_itself, "of a person": of_a_person}[before]
    if set_before:
        monkeypatch.setenv(name, set_before)
    found = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: found.append(os.environ[name]))
    monkeypatch.setattr(ray, "shutdown", lambda: found.append(os.environ[name]))
    with connected():
        pass
    assert found == [set_before or by_itself] * 2
    assert os.environ.get(name) == set_before


TWO_CLUSTERS = """
import os
import ray
from pipeline.runtime.cluster import connect
from pipeline.runtime.connection import connection
from ray._raylet import AuthenticationMode, get_authentication_mode

for _ in range(2):
    with connection():
        connect()
        token = ray.get(ray.remote(num_cpus=0)(lambda: os.environ["RAY_AUTH_TOKEN"]).remote())
        print(get_authentication_mode() == AuthenticationMode.TOKEN, token == os.environ["RAY_AUTH_TOKEN"])
    print([name for name in os.environ if name.startswith("RAY_AUTH_")])
"""


def test_a_cluster_of_its_own_has_a_token_and_leaves_none(tmp_path):
    """With a token in the home, `ray start --head` would ask for it, and its clients give none by themselves."""
    done = _run(TWO_CLUSTERS, HOME=f"{tmp_path}")
    assert (done.returncode, done.stdout) == (0, "True True\n[]\n" * 2), done.stderr
    assert not (tmp_path / ".ray").exists()


@pytest.mark.parametrize(
    "by_a_person", [{"RAY_ADDRESS": "10.0.0.1:6379"}, {"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN_PATH": "/token"}]
)
def test_a_person_may_say_which_token_there_is(monkeypatch, by_a_person):
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in by_a_person.items():
        monkeypatch.setenv(name, value)
    with connection():
        assert "RAY_AUTH_TOKEN" not in os.environ


def test_the_message_names_what_may_differ(monkeypatch):
    def refuse(**_):
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with (
        pytest.raises(RunError, match="whether RAY_AUTH_MODE and the token are the same here as where it was"),
        connected(),
    ):
        pass


PROCESSES_OF_TWO_TASKS = """
import os, time
import ray
from pipeline.runtime.cluster import connect
from pipeline.runtime.connection import connection

with connection():
    connect()

    @ray.remote
    class Busy:
        def there(self):
            return True

    actors = [Busy.options(num_cpus=1).remote() for _ in range(int(ray.cluster_resources()["CPU"]))]
    ray.get([actor.there.remote() for actor in actors])
    task = ray.remote(num_cpus=0)(lambda: os.getpid())
    first = ray.get(task.remote())
    time.sleep(4)
    print(first == ray.get(task.remote()))
"""


def test_a_process_of_a_task_serves_the_next_task_beside_actors_that_hold_all_cpus():
    done = _run(PROCESSES_OF_TWO_TASKS)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_ray_is_started_once_and_only_where_it_is_asked_for(monkeypatch):
    asked, there = [], []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: bool(there))
    monkeypatch.setattr(ray, "init", lambda **_: (asked.append(1), there.append(1)))
    monkeypatch.setattr(ray, "shutdown", there.clear)
    with connection():
        assert asked == []
    with connection():
        connect()
        connect()
        assert asked == there == [1]
    assert there == []


START_ON_A_THREAD = """
import threading, time
import ray
from pipeline.runtime.cluster import connect
from pipeline.runtime.connection import connection

with connection():
    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    time.sleep(2)
    print(ray.get(ray.remote(num_cpus=0)(lambda: "there").remote()))
"""


def test_a_cluster_that_a_thread_has_started_outlives_the_thread():
    done = _run(START_ON_A_THREAD)
    assert (done.returncode, done.stdout) == (0, "there\n"), done.stderr


def test_what_was_begun_ahead_is_waited_for_and_ended(monkeypatch):
    """A block that ends at once, as where the weights turn out to be none, leaves no cluster behind."""
    steps = []
    may_start = threading.Event()

    def start(**_):
        may_start.wait(60)
        steps.append("started")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: bool(steps))
    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "shutdown", lambda: steps.append("ended"))
    with connection():
        connect_ahead()
        assert steps == []
        threading.Timer(0.5, may_start.set).start()
    assert steps == ["started", "ended"]


def test_a_start_ahead_is_the_only_one(monkeypatch):
    there = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: bool(there))
    monkeypatch.setattr(ray, "init", lambda **_: (time.sleep(0.5), there.append(1)))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with connection():
        connect_ahead()
        connect()
    assert there == [1]


def test_what_a_start_ahead_meets_is_raised_where_ray_is_needed(monkeypatch):
    tried = []

    def fail(**_):
        tried.append(1)
        raise ConnectionError("nobody there")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with connection():
        connect_ahead()
        with pytest.raises(RunError, match="Ray did not start or answer: nobody there"):
            connect()
    with connection():
        connect_ahead()  # and whoever never connects does not meet it
    assert tried == [1, 1]


def test_nothing_starts_ahead_outside_of_a_block_nor_where_a_cluster_is_named(monkeypatch):
    asked = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: asked.append(1))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    connect_ahead()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with connection():
        connect_ahead()
        time.sleep(0.5)
    assert asked == []


@pytest.mark.parametrize("value", ["ray://10.0.0.1:10001", "http://10.0.0.1:8265"])
def test_a_url_is_refused(monkeypatch, value):
    monkeypatch.setenv("RAY_ADDRESS", value)
    with pytest.raises(
        ConfigError, match=f"RAY_ADDRESS is {value}, .*HOST:PORT of the cluster's head .*ray job submit"
    ):
        named_cluster()


LABELLED = ("--data=/nowhere", "--data-format=voc", "--model=scenes")


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (segment_bucket, ("--input=/nowhere", "--model=scenes")),
        (evaluate, LABELLED),
        (search_crf, LABELLED),
        (train, LABELLED[:2]),
        (demo, ()),
    ],
)
def test_every_job_refuses_it_before_it_opens_anything(monkeypatch, capsys, command, flags):
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.1:10001")
    assert command.main([*flags, "--output=/proc/nothing"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert ": RAY_ADDRESS is ray://10.0.0.1:10001, through which no job of this project can run; " in err


def _run(script: str, **changes: str) -> subprocess.CompletedProcess[str]:
    workers = {"RAY_num_workers_soft_limit", "RAY_idle_worker_killing_time_threshold_ms"}
    set_by_tests = {"RAY_ADDRESS", "RAY_AUTH_MODE", *workers}
    environment = {name: value for name, value in os.environ.items() if name not in set_by_tests} | changes
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_a_module_that_another_thread_is_loading_is_taken_for_none(monkeypatch):
    """It is among the loaded ones from the first line on, without what it will have: a first run loads Ray beside."""
    monkeypatch.setattr(client_errors, "sys", SimpleNamespace(modules={"aiohttp": ModuleType("aiohttp")}))
    assert client_errors.client_errors(*client_errors.CLIENT_ERRORS) == ()
    monkeypatch.setattr(connection_module, "sys", SimpleNamespace(modules={"ray": ModuleType("ray")}))
    with connection():
        pass
