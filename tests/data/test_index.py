"""The index of a shard: made once a version and a choice of columns, and kept."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.data.formats import FORMATS, ColumnNames
from pipeline.data.index import index_name, index_shard
from tests.helpers.shards import parquet_bytes, tar_bytes


@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_what_a_shard_holds_is_found_once(tmp_path: Path, name: str) -> None:
    table = pa.table({"key": ["1", "2", "3"], "image": [b"x", b"y", b"z"]})
    data = tar_bytes({"1.jpg": b"x", "2.jpg": b"y"}) if name == "a.tar" else parquet_bytes(table, 2)
    storage.put_whole(f"{tmp_path}/in/{name}", data)
    [entry] = storage.list_files(f"{tmp_path}/in")
    reader = FORMATS["webdataset" if name == "a.tar" else "parquet"]
    first = list(index_shard(entry, reader, f"{tmp_path}/index"))
    (tmp_path / "in" / name).unlink()
    assert list(index_shard(entry, reader, f"{tmp_path}/index")) == first
    [gone] = index_shard(replace(entry, version="another"), reader, f"{tmp_path}/index")
    assert gone["stage"].to_pylist() == ["list"]
    [kept] = (tmp_path / "index").iterdir()
    kept.write_bytes(b"damaged")
    [gone] = index_shard(entry, reader, f"{tmp_path}/index")
    assert gone["stage"].to_pylist() == ["list"]


def test_an_index_serves_no_other_choice_of_columns(tmp_path: Path) -> None:
    table = pa.table({"key": ["1", "2"], "name": ["one", "two"], "image": [b"x", b"y"], "other": [b"z", b"z"]})
    storage.put_whole(f"{tmp_path}/in/a.parquet", parquet_bytes(table, 2))
    [entry] = storage.list_files(f"{tmp_path}/in")
    choices = [ColumnNames(), ColumnNames(key="name"), ColumnNames(image="other")]
    keys = []
    for names in (*choices, *choices):
        [part] = index_shard(entry, FORMATS["parquet"].with_columns(names), f"{tmp_path}/index")
        keys.append(part["key"].to_pylist())
    wanted = [["1", "2"], ["one", "two"], ["1", "2"]] * 2
    assert keys == [[f"a.parquet/{name}" for name in names] for names in wanted]
    assert len(list((tmp_path / "index").iterdir())) == 3


def test_an_index_made_by_an_older_rule_is_not_used(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/a.tar", tar_bytes({"a.jpg": b"x"}))
    [entry] = storage.list_files(f"{tmp_path}/in")
    assert index_name(entry, FORMATS["webdataset"]) != index_name(entry, FORMATS["images"])
