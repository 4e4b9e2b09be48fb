"""What is listed: every format in one run, each image under a key that depends on nothing but its place."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import masks, storage
from pipeline.batch import ledger, shard_indexes
from pipeline.batch.listing import list_input
from pipeline.batch.only_keys import OnlyKeys
from pipeline.batch.parts import cut
from pipeline.batch.rows import FINISHED
from pipeline.batch.sink import write_files
from pipeline.batch.to_do import ToDo
from pipeline.data.formats import FORMATS
from pipeline.data.rows import table as as_table
from pipeline.data.source import Source, open_source
from tests.helpers.dataset import finished_row, info
from tests.helpers.shards import parquet_bytes, tar_bytes


def listed(folder: Path, input_format: str = "auto") -> list[tuple[str, str, str | None]]:
    """(key, path, message) of each row."""
    listing, listed_ids = list_input(open_source(str(folder), input_format), limit=None)
    found = pa.concat_tables(ids.table for ids in listed_ids).to_pylist()
    assert listing.listed == len(found)
    return [(row["key"], row["path"], row["message"]) for row in found]


def test_images_of_one_name_in_two_tars_have_two_keys(tmp_path: Path) -> None:
    """Which do not change when another shard comes; within a shard the second of a name fails."""
    storage.put_whole(f"{tmp_path}/b.tar", tar_bytes({"x.jpg": b"1", "y.jpg": b"2"}))
    before = listed(tmp_path)
    assert before == [("b.tar/x", "b.tar", None), ("b.tar/y", "b.tar", None)]
    storage.put_whole(f"{tmp_path}/a.tar", tar_bytes({"x.jpg": b"3", "z.jpg": b"4", "x.png": b"5"}))
    *good, failed = sorted(set(listed(tmp_path)) - set(before), key=lambda row: str(row[2] or ""))
    assert sorted(good) == [("a.tar/x", "a.tar", None), ("a.tar/z", "a.tar", None)]
    message = "the key 'a.tar/x' is that of an earlier image of this file, which has it; rename one of them"
    assert failed == ("a.tar#2560", "a.tar", message)


def test_a_shard_that_comes_later_neither_repeats_nor_loses_work(tmp_path: Path) -> None:
    """Its images have the names of those that are done; so has each in a rerun from nothing."""
    source, output = tmp_path / "in", f"{tmp_path}/out"
    note = info(input=str(source))

    def to_do() -> tuple[int, list[dict[str, Any]]]:
        listing, listed_ids = list_input(open_source(str(source), "auto"), limit=None)
        to_do = ToDo(ledger=ledger.load(output, note), listing=listing, notes=None, errors=False)
        rows = [row for part in cut(listed_ids) for ids in to_do.of(part) for row in ids.table.to_pylist()]
        return listing.skipped, rows

    def do(rows: list[dict[str, Any]], number: int) -> None:
        done = [finished_row(row["key"], row["version"]) | {"source": row["source"]} for row in rows]
        write_files(output, f"r{number}.parquet", note, as_table(done, FINISHED))

    table = pa.table({"image": [{"bytes": b"x", "path": f"{n}.jpg"} for n in range(3)]})
    for number, animal in enumerate(("dog", "cat", "ant")):
        storage.put_whole(f"{source}/{animal}/train-0.parquet", parquet_bytes(table, 2))
        skipped, rows = to_do()
        assert (skipped, [row["key"] for row in rows]) == (
            3 * number,
            [f"{animal}/train-0.parquet/{n}.jpg" for n in range(3)],
        )
        do(rows, number)
    assert to_do() == (9, [])
    names = sorted(key for key, _ in masks.read(output))
    assert names == sorted(key for key, _, _ in listed(source))
    assert len(names) == 9


def test_a_row_named_after_its_place_is_no_repeat(tmp_path: Path) -> None:
    table = pa.table({"key": ["x", "#2", None, "x", "x"], "image": [b"1", b"2", b"3", b"4", b"5"]})
    storage.put_whole(f"{tmp_path}/part.parquet", parquet_bytes(table, 2))
    found = listed(tmp_path)
    wanted = ["part.parquet/x", "part.parquet/#2", "part.parquet#2", "part.parquet#3", "part.parquet#4"]
    assert [key for key, _, _ in found] == wanted
    assert [message is None for _, _, message in found] == [True, True, True, False, False]


def test_every_format_is_listed_in_one_run(tmp_path: Path) -> None:
    """And what only looks like input is counted, wherever it was found out."""
    table = pa.table({"id": ["1"], "image": [b"x"]})
    storage.put_whole(f"{tmp_path}/data/0.parquet", parquet_bytes(table, 1))
    storage.put_whole(f"{tmp_path}/data/1.parquet", parquet_bytes(pa.table({"words": ["x"]}), 1))
    mine = table.replace_schema_metadata(info(run_id="r7").to_metadata())
    storage.put_whole(f"{tmp_path}/data/2.parquet", parquet_bytes(mine, 1))
    storage.put_whole(f"{tmp_path}/t.tar", tar_bytes({"1.jpg": b"y"}))
    storage.put_whole(f"{tmp_path}/t.parquet", parquet_bytes(table, 1))
    storage.put_whole(f"{tmp_path}/_DSC1.JPG", b"z")
    listing, listed_ids = list_input(open_source(str(tmp_path), "auto"), limit=None)
    rows = [
        (row["key"], row["format"], row["message"], ids.whole) for ids in listed_ids for row in ids.table.to_pylist()
    ]
    assert rows == [
        ("_DSC1.JPG", "images", None, False),
        ("data/0.parquet/1", "parquet", None, True),
        ("t.tar/1", "webdataset", None, False),
    ]
    assert listing.ignored.counts == {"other tables": 1, "output files": 1, "metadata files": 1}
    *named, counted = listing.ignored.lines()
    assert [line.split(" has ")[0] for line in named] == [f"ignored: {tmp_path}/data/{n}.parquet" for n in (1, 2)]
    assert sorted(counted.removeprefix("ignored: ").split(", ")) == [
        "1 metadata file",
        "1 other table",
        "1 output file",
    ]


def test_odd_names_and_what_is_not_read(tmp_path: Path) -> None:
    """A shard whose name is no UTF-8 costs a row, and nothing of the good shard beside it."""
    storage.put_whole(f"{tmp_path}/in/good.tar", tar_bytes({"x.jpg": b"1"}))
    (tmp_path / "in" / os.fsdecode(b"caf\xe9.tar")).write_bytes(tar_bytes({"y.jpg": b"2"}))
    (tmp_path / "in" / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"")
    (tmp_path / "in" / "gone.tar").symlink_to("nowhere")
    listing, listed_ids = list_input(open_source(f"{tmp_path}/in", "auto"), limit=None)
    rows = {row["key"]: row["stage"] for ids in listed_ids for row in ids.table.to_pylist()}
    assert rows == {"good.tar/x": None, r"caf\udce9.tar": "list"}
    assert listing.ignored.counts == {".txt": 1, "broken links": 1}


def tasks_begun(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Note, from now on, the shards of each task that opens some."""
    begun: list[list[str]] = []
    whole = shard_indexes._open

    def noted(source: Source, closed: list[Any]) -> int:
        begun.append([shard.entry.key for shard in closed])
        return whole(source, closed)

    monkeypatch.setattr(shard_indexes, "_open", noted)
    return begun


def test_the_first_shards_and_those_listed_before_need_no_cluster(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are opened there, and the order is that of the names, whoever opens them and however long it takes."""
    for name, value in (("_HERE", 3), ("_HERE_AT_ONCE", 4), ("_A_TASK", 4), ("_TASKS", 2)):
        monkeypatch.setattr(shard_indexes, name, value)
    begun = tasks_begun(monkeypatch)
    for number in range(12):
        storage.put_whole(f"{tmp_path}/in/{number:02d}.tar", tar_bytes({"x.jpg": b"1", "y.jpg": b"2"}))
    source = replace(open_source(f"{tmp_path}/in", "auto"), index=f"{tmp_path}/index")
    wanted = [f"{number:02d}.tar/{name}" for number in range(12) for name in "xy"]

    def keys() -> list[str]:
        return [key for ids in list_input(source, None)[1] for key in ids.table.column("key").to_pylist()]

    assert keys() == wanted
    assert begun == [[f"{number:02d}.tar" for number in some] for some in ((3, 4, 5, 6), (7, 8, 9, 10), (11,))]
    begun.clear()
    storage.put_whole(f"{tmp_path}/in/05a.tar", tar_bytes({"z.jpg": b"3"}))
    assert keys() == [*wanted[:12], "05a.tar/z", *wanted[12:]]
    assert begun == [["05a.tar"]]


def test_large_shards_have_tasks_of_their_own_and_few_are_under_way(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task is a process: however few shards fill one, there are no more at a time."""
    for name, value in (("_HERE", 0), ("_BYTES_A_TASK", 1), ("_TASKS", 2)):
        monkeypatch.setattr(shard_indexes, name, value)
    begun = tasks_begun(monkeypatch)
    names = [f"{number:02d}.tar" for number in range(12)]
    for name in names:
        storage.put_whole(f"{tmp_path}/in/{name}", tar_bytes({"x.jpg": b"1"}))
    source, most = open_source(f"{tmp_path}/in", "auto"), 0
    shards = sorted(source.entries(list_input(source, None)[0].ignored), key=lambda entry: entry.key)
    for taken, (entry, _, [table]) in enumerate(shard_indexes.indexes(source, shards)):
        assert table.column("key").to_pylist() == [f"{entry.key}/x"]
        most = max(most, len(begun) - taken)
    assert begun == [[name] for name in names]
    assert most == 2


def test_a_large_list_is_left_to_the_cluster() -> None:
    """A shard of that size is not: its rows are images, and few."""
    for name, is_for_here in (("list", False), ("webdataset", True)):
        assert shard_indexes._is_for_here(FORMATS[name], 0, 2**20)
        assert shard_indexes._is_for_here(FORMATS[name], 0, 2**30) is is_for_here
        assert not shard_indexes._is_for_here(FORMATS[name], 64, 2**20)


def test_the_size_of_a_list_is_not_that_of_its_images(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/list.csv", b"uri\ns3://bucket/a.jpg\n")
    storage.put_whole(f"{tmp_path}/in/a.jpg", b"1234")
    for place, input_format, size in ((f"{tmp_path}/list.csv", "list", 0), (f"{tmp_path}/in", "auto", 4)):
        listing, listed_ids = list_input(open_source(place, input_format), limit=None)
        assert sum(ids.table.num_rows for ids in listed_ids) == 1
        assert listing.mean_bytes == size


@pytest.mark.parametrize("choice", [{"limit": 2}, {"limit": None, "only": OnlyKeys(pa.array(["03.tar/b"]), "")}])
def test_the_mean_size_is_that_of_images_whatever_is_chosen_of_shards(tmp_path: Path, choice: dict[str, Any]) -> None:
    """Shards count as their rows come: plans that took the bytes of all for those of a few had batches of one."""
    for number in range(40):
        storage.put_whole(f"{tmp_path}/{number:02d}.tar", tar_bytes({"a.jpg": b"1" * 1000, "b.jpg": b"2" * 3000}))
    listing, listed_ids = list_input(open_source(str(tmp_path), "auto"), **choice)
    assert sum(ids.table.num_rows for ids in listed_ids) == listing.listed == (choice["limit"] or 1)
    assert listing.mean_bytes == 2000


def test_the_images_of_a_row_group_share_its_bytes_and_what_is_too_large_counts_for_none(tmp_path: Path) -> None:
    images = [b"1" * 4000, b"2" * 6000, b"3" * 1000, b"4" * 1000]
    table = pa.table({"key": list("abcd"), "image": images, "more": ["m" * 9000] * 4})
    storage.put_whole(f"{tmp_path}/0.parquet", parquet_bytes(table, row_group_size=2))
    with Path(f"{tmp_path}/1.jpg").open("wb") as file:
        file.truncate(40 * 2**30)
    listing, listed_ids = list_input(open_source(str(tmp_path), "auto"), limit=None)
    assert listing.mean_bytes == 0
    [large, *rest] = [length for ids in listed_ids for length in ids.table["length"].to_pylist()]
    assert large == 40 * 2**30
    assert rest[0] == rest[1]
    assert rest[2] == rest[3]
    assert 5000 <= rest[0] < 10_000  # the pages of so small a group hold bytes twice, as statistics
    assert 1000 <= rest[2] < 2500
    assert listing.mean_bytes == sum(rest) // 4
