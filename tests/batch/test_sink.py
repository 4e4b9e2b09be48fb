"""Committed files: schemas to the letter, one file a commit, nothing written twice."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import masks, storage
from pipeline.batch.rows import FINISHED
from pipeline.batch.sink import write_files
from pipeline.data import rows
from pipeline.errors import RunError, StorageError
from tests.helpers.dataset import MASK, finished_row, info
from tests.helpers.s3_proxy import s3_proxy
from tests.helpers.small_disk import enlarge, small_disk


def test_rows_land_in_masks_and_errors_with_their_schemas(tmp_path: Path) -> None:
    finished = rows.table([finished_row("a"), finished_row("bad", failed=True), finished_row("c")], FINISHED)
    receipt = write_files(str(tmp_path), "run1-00000.parquet", info(), finished)
    assert (receipt.segmented, receipt.failed) == (2, 1)
    assert receipt.causes == Counter({("decode", "ImageError"): 1})
    committed = {(file.uri, file.failed, file.size, file.keys) for file in masks.committed_files(str(tmp_path))}
    assert committed == {tuple(file) for file in receipt.files}
    assert {file.keys for file in receipt.files} == {("a", "c"), ("bad", "bad")}
    good = pq.read_table(tmp_path / "masks" / "run1-00000.parquet")
    bad = pq.read_table(tmp_path / "errors" / "run1-00000.parquet")
    assert good.schema.remove_metadata() == masks.MASKS_SCHEMA
    assert bad.schema.remove_metadata() == masks.ERRORS_SCHEMA
    assert good["key"].to_pylist() == ["a", "c"]
    assert set(good["model"].to_pylist()) == {"tiny"}
    assert bad.to_pylist()[0] == {
        "key": "bad",
        "source": "s3://b/bad",
        "version": "1",
        "stage": "decode",
        "error": "ImageError",
        "message": "empty",
        "run_id": "run1",
    }
    assert json.loads(good.schema.metadata[b"huggingface"])["info"]["features"]["mask"] == {"_type": "Image"}


def test_written_masks_read_back(tmp_path: Path) -> None:
    write_files(str(tmp_path), "x.parquet", info(), rows.table([finished_row("a")], FINISHED))
    [(key, mask)] = list(masks.read(str(tmp_path)))
    assert key == "a"
    np.testing.assert_array_equal(mask, MASK)


def test_a_folder_without_rows_gets_no_file(tmp_path: Path) -> None:
    write_files(str(tmp_path), "x.parquet", info(), rows.table([finished_row("a", failed=True)], FINISHED))
    assert [path.name for path in tmp_path.iterdir()] == ["errors"]


def test_a_repeated_write_replaces_its_own_file(tmp_path: Path) -> None:
    for _ in range(2):
        write_files(str(tmp_path), "x.parquet", info(), rows.table([finished_row("a")], FINISHED))
    assert len(list(masks.read(str(tmp_path)))) == 1


def test_nothing_is_put_by_a_run_that_lost_its_lock(tmp_path: Path) -> None:
    def check() -> None:
        raise RunError("another run has the lock")

    with pytest.raises(RunError, match="has the lock"):
        write_files(str(tmp_path), "x.parquet", info(), rows.table([finished_row("a")], FINISHED), check)
    assert list(tmp_path.iterdir()) == []


def test_on_a_full_disk_a_file_is_not_there_and_those_before_it_stay(tmp_path: Path) -> None:
    output, rng = tmp_path / "disk", np.random.default_rng(0)
    noise = masks.encode(rng.integers(0, 3, (200, 300), np.uint8), info().palette)
    large = finished_row("large") | {"mask": {"bytes": noise, "path": None}, "height": 200, "width": 300}
    with small_disk(output, size="24k"):
        write_files(str(output), "x.parquet", info(), rows.table([finished_row("a")], FINISHED))
        with pytest.raises(StorageError, match=r"cannot write .*/y.parquet: no space is left there"):
            write_files(str(output), "y.parquet", info(), rows.table([large], FINISHED))
        assert [file.name for file in (output / "masks").iterdir()] == ["x.parquet"]
        enlarge(output)
        write_files(str(output), "y.parquet", info(), rows.table([large], FINISHED))
        assert sorted(key for key, _ in masks.read(str(output))) == ["a", "large"]


def test_the_lock_is_read_again_where_the_storage_is_asked_again(bucket: str, s3_endpoint: str) -> None:
    asked = []
    with s3_proxy(s3_endpoint) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)

        def check() -> None:
            asked.append(len(proxy.puts(f"{bucket}/masks")))
            proxy.fault = "refuse" if len(asked) == 1 else "none"

        with storage.retrying(30):
            write_files(bucket, "x.parquet", info(), rows.table([finished_row("a")], FINISHED), check)
    assert len(asked) == 2
    assert len(list(masks.read(bucket))) == 1


def test_a_write_that_is_repeated_with_other_rows_leaves_none_of_the_first(tmp_path: Path) -> None:
    for failed in (True, False):
        row = finished_row("a", failed=failed)
        write_files(str(tmp_path), "x.parquet", info(), rows.table([row], FINISHED))
    assert [key for key, _ in masks.read(str(tmp_path))] == ["a"]
    assert list((tmp_path / "errors").iterdir()) == []
