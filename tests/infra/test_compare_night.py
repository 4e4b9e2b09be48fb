"""infra/kubernetes/nightly/compare_night.py: the masks of two nights, and the drift asked for as Prometheus does."""

import threading
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest

from tests.helpers.outputs import note, put_rows, row
from tests.helpers.servers import free_port

SCRIPT = Path(__file__).parents[2] / "infra/kubernetes/nightly/compare_night.py"


@pytest.fixture
def compare_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = spec_from_file_location("compare_night", SCRIPT)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("OUTPUT", f"{tmp_path}/out")
    monkeypatch.setenv("MAX_DRIFT", "0.1")
    return module


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


def test_the_first_night_has_nothing_to_show_and_is_no_failure(
    compare_night: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_nights(f"{tmp_path}/out", 1)
    assert compare_night.main(tmp_path, free_port()) == 0
    assert "there is no drift to show" in capsys.readouterr().err
