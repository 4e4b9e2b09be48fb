"""A run whose output has everything already needs no cluster, and no network."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.batch import preflight
from pipeline.batch.config import RunConfig
from pipeline.batch.preflight import check
from pipeline.batch.rows import FINISHED
from pipeline.batch.run import dataset_info, segment
from pipeline.batch.sink import write_files
from pipeline.data import rows
from pipeline.errors import ConfigError
from tests.helpers.pictures import jpeg, photo

ROOT = Path(__file__).parents[2]


def done(source: str, output: str) -> None:
    """Write a mask's row for each picture below `source`, as a run commits it."""
    note = dataset_info(check(RunConfig(input=source, output=output, model="scenes")))
    mask = {"mask": {"bytes": b"", "path": None}, "height": 1, "width": 1, "confidence": 1.0, "classes": []}
    entries = storage.list_files(source)
    found = [{"key": entry.key, "source": entry.uri, "version": entry.version} | mask for entry in entries]
    write_files(output, f"{note.run_id}-00000.parquet", note, rows.table(found, FINISHED))


WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None  # to import it raises
sys.argv = ["jobs/segment_bucket.py", *sys.argv[1:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_ray_starts_ahead_only_for_an_output_without_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    monkeypatch.setattr(preflight, "connect_ahead", lambda: begun.append(1))
    storage.put_whole(f"{tmp_path}/in/0.jpg", jpeg(photo(0)))
    first = RunConfig(input=f"{tmp_path}/in", output=f"{tmp_path}/out", model="scenes")
    check(replace(first, dry_run=True))
    assert begun == []
    check(first)
    assert begun == [1]
    done(f"{tmp_path}/in", f"{tmp_path}/out")
    begun.clear()
    check(first)
    assert begun == []


def test_a_rerun_with_nothing_to_do_asks_for_no_cluster_and_loads_no_torch(tmp_path: Path) -> None:
    for number in range(3):
        storage.put_whole(f"{tmp_path}/in/{number}.jpg", jpeg(photo(number)))
    done(f"{tmp_path}/in", f"{tmp_path}/out")
    flags = ["--model=scenes", f"--input={tmp_path}/in", f"--output={tmp_path}/out"]
    nowhere = os.environ | {"RAY_ADDRESS": "127.0.0.1:1"}  # a job that asks for Ray fails
    for program in (["jobs/segment_bucket.py"], ["-c", WITHOUT_TORCH]):
        command = [sys.executable, *program, *flags]
        job = subprocess.run(command, cwd=ROOT, env=nowhere, capture_output=True, text=True, timeout=300)
        assert job.returncode == 0, job.stderr
        summary = json.loads(job.stdout.splitlines()[-1])
        assert (summary["listed"], summary["skipped"], summary["plan"]) == (3, 3, None)


def test_a_run_that_is_refused_for_another_input_leaves_no_trace(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/0.jpg", jpeg(photo(0)))
    storage.put_whole(f"{tmp_path}/other/0.jpg", jpeg(photo(0)))
    done(f"{tmp_path}/in", f"{tmp_path}/out")
    before = sorted((tmp_path / "out").rglob("*"))
    with pytest.raises(ConfigError, match="holds the masks of"):
        segment(check(RunConfig(input=f"{tmp_path}/other", output=f"{tmp_path}/out", model="scenes")))
    assert {path.name for path in (tmp_path / "out").rglob("*")} - {path.name for path in before} <= {"_runs"}
