"""Committed files: schemas to the letter, one file a commit, nothing written twice."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from dataset import MASK, finished_row, info

from pipeline import masks
from pipeline.batch import rows
from pipeline.batch.sink import Receipt, write_files


def test_rows_land_in_masks_and_errors_with_their_schemas(tmp_path: Path) -> None:
    finished = rows.table([finished_row("a"), finished_row("bad", failed=True), finished_row("c")], rows.FINISHED)
    receipt = write_files(str(tmp_path), "run1-00000.parquet", info(), finished)
    assert receipt == Receipt(segmented=2, causes=Counter({("decode", "ImageError"): 1}))
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
    write_files(str(tmp_path), "x.parquet", info(), rows.table([finished_row("a")], rows.FINISHED))
    [(key, mask)] = list(masks.read(str(tmp_path)))
    assert key == "a"
    np.testing.assert_array_equal(mask, MASK)


def test_a_folder_without_rows_gets_no_file(tmp_path: Path) -> None:
    write_files(str(tmp_path), "x.parquet", info(), rows.table([finished_row("a", failed=True)], rows.FINISHED))
    assert [path.name for path in tmp_path.iterdir()] == ["errors"]


def test_a_repeated_write_replaces_its_own_file(tmp_path: Path) -> None:
    for _ in range(2):
        write_files(str(tmp_path), "x.parquet", info(), rows.table([finished_row("a")], rows.FINISHED))
    assert len(list(masks.read(str(tmp_path)))) == 1
