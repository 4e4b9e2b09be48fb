"""What is listed: keys that repeat are told, and which image of a key comes first does not depend on chance."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.batch.ledger import Ledger
from pipeline.batch.listing import list_input
from pipeline.data.source import open_source
from tests.helpers.shards import parquet_bytes, tar_bytes

pytestmark = pytest.mark.usefixtures("cluster")


def listed(folder: Path) -> list[tuple[str, str, str | None]]:
    """(key, path, message) of each row."""
    listing, tables = list_input(open_source(str(folder), "auto"), Ledger().pending, limit=None)
    found = pa.concat_tables(tables).to_pylist()
    assert listing.listed == len(found)
    return [(row["key"], row["path"], row["message"]) for row in found]


def test_a_key_in_two_tars_and_twice_in_one(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/b.tar", tar_bytes({"x.jpg": b"1", "y.jpg": b"2"}))
    storage.put_whole(f"{tmp_path}/a.tar", tar_bytes({"x.jpg": b"3", "z.jpg": b"4", "x.png": b"5"}))
    good = [(key, path) for key, path, message in listed(tmp_path) if message is None]
    bad = [(key, message) for key, _, message in listed(tmp_path) if message is not None]
    assert good == [("x", "a.tar"), ("z", "a.tar"), ("y", "b.tar")]
    assert sorted(key.partition("#")[0] for key, _ in bad) == ["a.tar", "b.tar"]
    assert all("key 'x'" in message for _, message in bad)


def test_a_row_named_after_its_place_does_not_hide_a_repeat(tmp_path: Path) -> None:
    table = pa.table({"key": ["x", "part.parquet#2", "x", "x"], "image": [b"1", b"2", b"3", b"4"]})
    storage.put_whole(f"{tmp_path}/part.parquet", parquet_bytes(table, 2))
    found = listed(tmp_path)
    assert [key for key, _, _ in found] == ["x", "part.parquet#2", "part.parquet#2'", "part.parquet#3"]
    assert [message is None for _, _, message in found] == [True, True, False, False]


def test_odd_names_and_what_is_not_read(tmp_path: Path) -> None:
    """A shard whose name is no UTF-8 costs a row, and nothing of the good shard beside it."""
    storage.put_whole(f"{tmp_path}/in/good.tar", tar_bytes({"x.jpg": b"1"}))
    (tmp_path / "in" / os.fsdecode(b"caf\xe9.tar")).write_bytes(tar_bytes({"y.jpg": b"2"}))
    (tmp_path / "in" / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"")
    (tmp_path / "in" / "gone.tar").symlink_to("nowhere")
    listing, tables = list_input(open_source(f"{tmp_path}/in", "auto"), Ledger().pending, limit=None)
    rows = {row["key"]: row["stage"] for table in tables for row in table.to_pylist()}
    assert rows == {"x": None, r"caf\udce9.tar": "list"}
    assert listing.ignored.counts == {".txt": 1, "broken links": 1}
