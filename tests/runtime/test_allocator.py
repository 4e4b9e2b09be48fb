"""A process that segments on a CPU keeps the memory that it frees."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PAGES_OF_THE_SAME_AGAIN = """
import resource, sys
import torch
from pipeline import models
from pipeline.batch.segment_stage import load_predictor
from pipeline.models import Inference, Predictor

make = {"load_predictor": load_predictor, "Predictor": Predictor}[sys.argv[1]]
predictor = make(models.load("scenes"), Inference(), "cpu")
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(2**24)  # 64 MiB, more than glibc by itself would ever keep
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_what_is_freed_serves_again():
    pages = {made_by: _pages(made_by) for made_by in ("load_predictor", "Predictor")}
    assert pages["load_predictor"] < pages["Predictor"] / 4


def _pages(made_by: str) -> int:
    command = [sys.executable, "-c", PAGES_OF_THE_SAME_AGAIN, made_by]
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True).stdout)
