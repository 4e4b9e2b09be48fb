"""The benchmark for a GPU machine, on a CPU: that all of it runs where only PyTorch and Triton are."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]

BARE_MACHINE = """
import runpy, sys
from importlib.machinery import PathFinder

MISSING = ("ray", "pydensecrf", "s3fs", "aiohttp", "botocore", "jsonargparse", "skimage", "sklearn")
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *place: None if name in MISSING else find_spec(name, *place)
sys.argv = ["gpu", *sys.argv[1:]]
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark as on a machine that has none of the project's larger dependencies."""
    command = [sys.executable, "-c", BARE_MACHINE, *flags]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    done = run("--device", "cpu", "--tiny")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
def test_parity_comes_first_and_holds(figures: dict[str, Any]) -> None:
    assert {check["what"][:3] for check in figures["parity"]} == {"net", "CRF"}
    assert all(check["same"] >= check["asked"] >= 0.98 for check in figures["parity"])


@pytest.mark.long
def test_every_part_has_its_figures(figures: dict[str, Any]) -> None:
    values = {figure["what"]: figure for figure in figures["figures"]}
    assert {"ceiling: product of bfloat16 matrices", "ceiling: copy"} <= set(values)
    for part in ("as stored", "folded", "compiled", "lattices", "updates", "whole", "by PyTorch's operators", "stage"):
        assert any(part in what for what in values), part
    assert all(figure["median"] > 0 for figure in values.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_without_a_gpu_it_measures_nothing_and_says_so() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gpu: no CUDA device is there, nothing is measured; run it on a GPU machine\n"
