"""infra/kubernetes/nightly/compare_night.py: the masks of two nights, and the drift asked for as Prometheus does."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest

from pipeline.masks import reading
from tests.helpers.outputs import note, put_rows, row
from tests.helpers.servers import free_port

SCRIPT = Path(__file__).parents[2] / "infra/kubernetes/nightly/compare_night.py"


@pytest.fixture
def compare_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    spec = spec_from_file_location("compare_night", SCRIPT)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("OUTPUT", f"{tmp_path}/out")
    monkeypatch.setenv("MAX_DRIFT", "0.1")
    before = signal.getsignal(signal.SIGTERM)
    yield module
    signal.signal(signal.SIGTERM, before)


def put_nights(output: str, *labels: int) -> None:
    for night, label in enumerate(labels, start=1):
        info = note(night=night)
        put_rows(output, info, [row(f"{night}", np.full((6, 8), label, np.uint8), info)])


def scraped(port: int, path: str) -> dict[str, float]:
    """The metrics, as soon as they are there."""
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain")
                lines = answer.read().decode().splitlines()
            break
        except URLError:
            time.sleep(0.05)
    values = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.partition("{")[0]: float(value) for name, value in values}


def test_a_drifted_second_night_raises_the_metric_of_the_alert(compare_night: Any, tmp_path: Path) -> None:
    put_nights(f"{tmp_path}/out", 1, 2)
    port, found = free_port(), []
    prometheus = threading.Thread(target=lambda: found.append(scraped(port, "metrics")))
    prometheus.start()
    assert compare_night.main(tmp_path, port, shown_seconds=5) == 0
    prometheus.join()
    (drift,) = found
    assert drift["deeplab_drift"] > drift["deeplab_drift_allowed"] == 0.1


def test_the_first_night_has_no_drift_and_counts_as_a_night(
    compare_night: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_nights(f"{tmp_path}/out", 1)
    assert compare_night.main(tmp_path, free_port(), shown_seconds=0) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["drift"] is None
    assert "none before to compare them with" in printed.err
    assert "deeplab_compared_seconds{" in (tmp_path / "metrics").read_text()


@pytest.mark.parametrize("allowed", ["abc", "", "5%", "2"])
def test_a_drift_that_cannot_be_allowed_is_a_line_and_fails_no_night(
    allowed: str,
    compare_night: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_nights(f"{tmp_path}/out", 1, 2)
    monkeypatch.setenv("MAX_DRIFT", allowed)
    assert compare_night.main(tmp_path, free_port()) == 0
    reason, shown = capsys.readouterr().err.splitlines()
    assert reason.startswith("compare_night: ConfigError: ")
    assert "max_drift" in reason
    assert shown == "compare_night: there is nothing to show"


def test_what_nobody_foresaw_is_a_line_too(
    compare_night: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OUTPUT")
    assert compare_night.main(tmp_path, free_port()) == 0
    assert capsys.readouterr().err.startswith("compare_night: KeyError: 'OUTPUT'\n")


def test_a_comparison_that_is_stopped_is_no_success_so_that_another_pod_compares(
    compare_night: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "committed_files", lambda _: signal.raise_signal(signal.SIGTERM))
    assert compare_night.main(tmp_path, free_port()) == 143


def test_sigterm_ends_what_is_shown_at_once_and_without_a_traceback(tmp_path: Path) -> None:
    put_nights(f"{tmp_path}/out", 1, 2)
    port = free_port()
    serving = f"import sys; sys.path[:0] = ['{SCRIPT.parent}']; import compare_night, pathlib\n"
    serving += f"sys.exit(compare_night.main(pathlib.Path('{tmp_path}'), {port}))"
    environment = os.environ | {"OUTPUT": f"{tmp_path}/out", "MAX_DRIFT": "0.1"}
    process = subprocess.Popen([sys.executable, "-c", serving], env=environment, stderr=subprocess.PIPE, text=True)
    assert scraped(port, "metrics")["deeplab_drift"] == 1
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in err
