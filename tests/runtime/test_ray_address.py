"""Which cluster RAY_ADDRESS names; what cannot be one is refused before anything is opened."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from pipeline.commands.demo import command as demo
from pipeline.commands.evaluate import command as evaluate
from pipeline.commands.search_crf import command as search_crf
from pipeline.commands.segment import command as segment_bucket
from pipeline.commands.train import command as train
from pipeline.errors import ConfigError
from pipeline.runtime.cluster import connect, connected, named_cluster
from pipeline.runtime.connection import connection

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


@pytest.mark.parametrize(("before", "within"), [(None, "fatal"), ("info", "info"), ("fatal", "fatal")])
def test_the_cores_log_is_off_meanwhile_unless_a_person_wants_it(monkeypatch, before, within):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_BACKEND_LOG_LEVEL", raising=False)
    if before:
        monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", before)
    levels = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: levels.append(os.environ["RAY_BACKEND_LOG_LEVEL"]))
    monkeypatch.setattr(ray, "shutdown", lambda: levels.append(os.environ["RAY_BACKEND_LOG_LEVEL"]))
    with connected():
        pass
    assert levels == [within, within]
    assert os.environ.get("RAY_BACKEND_LOG_LEVEL") == before


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
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", START_ON_A_THREAD]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "there\n"), done.stderr


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
