"""A storage that fails for a while in the middle of a run costs time and nothing else."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pictures import jpeg, photo
from s3_proxy import Fault, S3Proxy, s3_proxy

from pipeline import masks, storage

ROOT = Path(__file__).parents[2]
COUNT = 40


def start(bucket: str, proxy: S3Proxy, *flags: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            *(sys.executable, "jobs/segment_bucket.py", "--input", f"{bucket}/in", "--output", f"{bucket}/out"),
            *("--commit-seconds=0.5", "--refine.backend=none", *flags),
        ],
        cwd=ROOT,
        env=os.environ | {"RAY_AUTH_MODE": "disabled", "AWS_ENDPOINT_URL": proxy.endpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fill(bucket: str) -> None:
    for n in range(COUNT):
        storage.put_whole(f"{bucket}/in/{n:03d}.jpg", jpeg(photo(n, 150, 200)))


def wait_for_a_fetch(bucket: str, proxy: S3Proxy, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 200
    while not proxy.gets(f"{bucket}/in") and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def everything_once(bucket: str) -> None:
    found = masks.verify(f"{bucket}/out")
    assert found.problems == ()
    assert (found.segmented, found.failed, found.replaced) == (COUNT, 0, 0)


@pytest.mark.parametrize("fault", ["refuse", "drop"])
def test_a_storage_that_fails_for_a_while(s3_endpoint: str, bucket: str, fault: Fault) -> None:
    fill(bucket)
    with s3_proxy(s3_endpoint) as proxy:
        process = start(bucket, proxy)
        wait_for_a_fetch(bucket, proxy, process)
        proxy.fault = fault
        time.sleep(8)
        proxy.fault = "none"
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["segmented"] == COUNT
    everything_once(bucket)
