"""What a second run over the same input costs, retries, and what a dry run says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pictures import jpeg, photo
from s3_proxy import s3_proxy

from pipeline import masks, storage

ROOT = Path(__file__).parents[2]


def job(*flags: str, **changes: str) -> dict[str, Any]:
    """The last line of a run of jobs/segment_bucket.py in a process of its own, with a Ray of its own."""
    done = subprocess.run(
        [sys.executable, "jobs/segment_bucket.py", "--error-budget=1", *flags],
        cwd=ROOT,
        env=os.environ | {"RAY_AUTH_MODE": "disabled"} | changes,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_second_run_over_a_thousand_objects_gets_none(s3_endpoint: str, bucket: str) -> None:
    fs, path = storage.filesystem(f"{bucket}/in")
    fs.pipe({f"{path}/{n:04d}.jpg": b"x" for n in range(990)})
    fs.pipe({f"{path}/good-{n}.jpg": jpeg(photo(n)) for n in range(10)})
    flags = ("--input", f"{bucket}/in", "--output", f"{bucket}/out")
    with s3_proxy(s3_endpoint) as proxy:
        first = job(*flags, AWS_ENDPOINT_URL=proxy.endpoint)
        assert (first["segmented"], first["failed"]) == (10, 990)
        assert len(set(proxy.gets(f"{bucket}/in"))) == 1000
        proxy.requests.clear()
        second = job(*flags, AWS_ENDPOINT_URL=proxy.endpoint)
        assert (second["listed"], second["skipped"], second["plan"]) == (1000, 1000, None)
        assert proxy.gets(f"{bucket}/in") == []
        proxy.requests.clear()
        fs.pipe_file(f"{path}/good-3.jpg", jpeg(photo(33)))
        forecast = job(*flags, "--dry-run=true", AWS_ENDPOINT_URL=proxy.endpoint)
        assert (forecast["listed"], forecast["skipped"], forecast["to_do"]) == (1000, 999, 1)
        assert {method for method, _ in proxy.requests} == {"GET", "HEAD"}
        assert proxy.gets(f"{bucket}/in") == []


def test_only_what_failed_is_tried_again(tmp_path: Path) -> None:
    flags = ("--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out")
    for n in range(3):
        storage.put_whole(f"{tmp_path}/in/{n}.jpg", jpeg(photo(n)))
    first = job(*flags, "--max-pixels=10")  # every picture is too large
    assert (first["segmented"], first["failed"]) == (0, 3)
    assert job(*flags)["skipped"] == 3
    storage.put_whole(f"{tmp_path}/in/new.jpg", jpeg(photo(9)))
    retried = job(*flags, "--retry-errors=true")
    assert (retried["listed"], retried["segmented"], retried["failed"]) == (4, 3, 0)
    assert sorted(key for key, _ in masks.read(f"{tmp_path}/out")) == ["0.jpg", "1.jpg", "2.jpg"]
    assert job(*flags, "--retry-errors=true")["segmented"] == 0
    assert job(*flags)["segmented"] == 1


@pytest.mark.parametrize("change", ["--inference.flip=true", "--refine.backend=none"])
def test_another_configuration_is_another_generation(tmp_path: Path, change: str) -> None:
    storage.put_whole(f"{tmp_path}/in/a.jpg", jpeg(photo(1)))
    flags = ("--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out")
    assert [job(*flags)["segmented"], job(*flags, change)["segmented"], job(*flags, change)["segmented"]] == [1, 1, 0]
    newest, oldest = masks.generations(f"{tmp_path}/out")
    assert newest.generation != oldest.generation
    for generation in (newest.generation, oldest.generation):
        assert [key for key, _ in masks.read(f"{tmp_path}/out", generation)] == ["a.jpg"]
