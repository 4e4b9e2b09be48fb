"""What the input holds, listed without fetching an image, and fetched back row by row."""

import hashlib
import os
import tarfile
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.data.formats import ColumnNames, formats_read
from pipeline.data.ignored import Ignored
from pipeline.data.index import index_shard
from pipeline.data.source import Source, open_source
from pipeline.errors import ConfigError, NoInputError, StorageError
from tests.helpers.dataset import info
from tests.helpers.shards import fetched, fetched_rows, listed, parquet_bytes, tar_bytes


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["a.jpg", "sub/B.PNG", "readme.md"], {"images": ["a.jpg", "sub/B.PNG"]}),
        (["x-0.tar", "x-1.TAR", "notes.txt"], {"webdataset": ["x-0.tar", "x-1.TAR"]}),
        (["part-0.parquet", "card.png"], {"parquet": ["part-0.parquet"], "images": ["card.png"]}),
        (["a.jpg", "b.tar", "c.parquet"], {"images": ["a.jpg"], "webdataset": ["b.tar"], "parquet": ["c.parquet"]}),
    ],
)
def test_auto_reads_every_format(tmp_path: Path, names: list[str], wanted: dict[str, list[str]]) -> None:
    for name in names:
        storage.put_whole(f"{tmp_path}/in/{name}", b"x")
    found: dict[str, list[str]] = {}
    for input_format in ("auto", *wanted):
        source = open_source(f"{tmp_path}/in", input_format)
        entries = sorted(source.entries(), key=lambda entry: entry.key)
        by_format = {name: [e.key for e in entries if source.reader(e).name == name] for name in source.formats}
        if input_format == "auto":
            found = {name: keys for name, keys in by_format.items() if keys}
        else:
            assert by_format == {input_format: wanted[input_format]}
    assert found == wanted


def test_two_pictures_of_a_readme_beside_twenty_in_a_table(place: str, tmp_path: Path) -> None:
    """As data sets lie on hubs: all 22 are read, and a table without pictures is named."""
    pictures = {f"{n}": bytes([n]) for n in range(20)}
    table = pa.table({"id": list(pictures), "image": list(pictures.values())})
    storage.put_whole(f"{place}/data/train.parquet", parquet_bytes(table, 7))
    storage.put_whole(f"{place}/data/words.parquet", parquet_bytes(pa.table({"x": [1]}), 1))
    for name in ("banner.png", "example.jpg"):
        storage.put_whole(f"{place}/{name}", name.encode())
    source = open_source(place, "auto")
    said = "keys of images in Parquet files begin with the file's path, as in data/train.parquet/NAME"
    assert source.reading == [f"{place}/data/train.parquet: images from column `image`, keys from `id`", said]
    readers = {entry.key: source.reader(entry) for entry in source.entries()}
    assert readers.pop("data/words.parquet").name == "parquet"
    with pytest.raises(NoInputError, match=r"words\.parquet has no column of encoded images"):
        list(index_shard(next(e for e in source.entries() if "words" in e.key), source.formats["parquet"]))
    storage.delete(f"{place}/data/words.parquet")
    wanted = {f"data/train.parquet/{key}": data for key, data in pictures.items()}
    wanted |= {"banner.png": b"banner.png", "example.jpg": b"example.jpg"}
    assert {row["key"]: row["image"] for row in fetched(place, tmp_path)} == wanted


def test_a_table_that_a_run_has_written_is_no_input_whatever_its_name(tmp_path: Path) -> None:
    """With a column of pictures too, as somebody may have added it."""
    table = pa.table({"key": ["a"], "image": [b"x"]})
    noted = table.replace_schema_metadata(info(run_id="r7").to_metadata())
    storage.put_whole(f"{tmp_path}/in/mine.parquet", parquet_bytes(noted, 1))
    with pytest.raises(NoInputError, match=r"mine\.parquet has the note of the run r7: an output is no input"):
        open_source(f"{tmp_path}/in", "auto")
    foreign = table.replace_schema_metadata({b"segmentation": b"of a market"})
    storage.put_whole(f"{tmp_path}/in/theirs.parquet", parquet_bytes(foreign, 1))
    source = open_source(f"{tmp_path}/in", "auto")
    assert source.reading[0] == f"{tmp_path}/in/theirs.parquet: images from column `image`, keys from `key`"


def test_what_lies_below_a_shard_of_the_same_name_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As only object stores can list it; their keys could be those of the shard's images."""
    names = ["a.tar", "a.tar/x.jpg", "a.tar/b.tar", "A.TAR/x.jpg", "c.parquet/part-0.parquet", "d.tar.jpg"]
    source, ignored = Source(uri="s3://b", root="s3://b", formats=formats_read("auto")), Ignored()
    entries = [storage.Entry(f"s3://b/{name}", name, 1, "1") for name in names]
    monkeypatch.setattr("pipeline.data.source.input_files", lambda *_: iter(entries))
    found = sorted(entry.key for entry in source.entries(ignored))
    assert found == ["A.TAR/x.jpg", "a.tar", "c.parquet/part-0.parquet", "d.tar.jpg"]
    assert ignored.counts == {"files below shards": 2}
    assert all("rename one of them" in line for line in ignored.lines()[:-1])
    entries = [entries[1], entries[0]]  # as a storage may list that has no order
    assert [entry.key for entry in source.entries(ignored)] == ["a.tar/x.jpg"]
    assert ignored.counts == {"files below shards": 3}


def test_names_below_folders_called_as_shards_do_not_wait_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = (storage.Entry(f"s3://b/a.tar/{n}.jpg", f"a.tar/{n}.jpg", 1, "1") for n in count())
    monkeypatch.setattr("pipeline.data.source.input_files", lambda *_: listed)
    source = Source(uri="s3://b", root="s3://b", formats=formats_read("auto"))
    assert [entry.key for entry in islice(source.entries(), 2)] == ["a.tar/0.jpg", "a.tar/1.jpg"]


def test_nothing_to_segment_is_said(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/readme.md", b"x")
    with pytest.raises(StorageError, match=r"no images, tar files.* or .* files among.*readme\.md"):
        open_source(f"{tmp_path}/in", "auto")
    with pytest.raises(StorageError, match="no tar files"):
        open_source(f"{tmp_path}/in", "webdataset")
    storage.put_whole(f"{tmp_path}/list.csv", b"uri\nx.jpg\n")
    with pytest.raises(StorageError, match=r"ignored: 1 \.csv; if it is a list of images, add --input-format list$"):
        open_source(f"{tmp_path}/list.csv", "auto")
    storage.put_whole(f"{tmp_path}/in/list.csv", b"uri\nx.jpg\n")
    with pytest.raises(StorageError, match=r"1 \.csv$"):
        open_source(f"{tmp_path}/in", "auto")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="nothing is listed"):
        open_source(f"{tmp_path}/empty", "auto")


def test_what_is_asked_for_may_come_after_thousands_of_others(tmp_path: Path) -> None:
    (tmp_path / "in" / "Annotations").mkdir(parents=True)
    for n in range(1100):
        (tmp_path / "in" / "Annotations" / f"{n}.xml").touch()
    storage.put_whole(f"{tmp_path}/in/JPEGImages/a.jpg", b"x")
    source = open_source(f"{tmp_path}/in", "auto")
    assert [entry.key for entry in source.entries()] == ["JPEGImages/a.jpg"]
    with pytest.raises(StorageError, match="no tar files among the first 1101 names"):
        open_source(f"{tmp_path}/in", "webdataset")


def test_the_search_for_a_first_image_goes_past_many_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [storage.Entry(f"s3://b/{n}.json", f"{n}.json", 1, "1") for n in range(20_002)]
    image = storage.Entry("s3://b/x.jpg", "x.jpg", 1, "1")
    monkeypatch.setattr("pipeline.data.source.input_files", lambda *_: iter([*others, image]))
    monkeypatch.setattr("pipeline.storage.probe_object", lambda _: None)
    assert open_source("s3://b", "auto").root == "s3://b"
    monkeypatch.setattr("pipeline.data.source._SEARCH_SECONDS", 0)
    with pytest.raises(
        StorageError, match=r"among the first 20000 names.*; if there are some further on, give the folder"
    ):
        open_source("s3://b", "auto")


@pytest.mark.parametrize("output", ["", "/out"])
def test_what_was_written_below_the_input_is_none(tmp_path: Path, output: str) -> None:
    table = parquet_bytes(pa.table({"key": ["a"], "image": [b"x"]}), 1)
    storage.put_whole(f"{tmp_path}/z/part.parquet", table)
    for folder in ("masks", "errors", "_index", "_runs/1/manifest", "_quarantine/masks"):
        storage.put_whole(f"{tmp_path}{output}/{folder}/x.parquet", table)
    source = open_source(str(tmp_path), "auto", f"{tmp_path}{output}")
    assert [entry.key for entry in source.entries()] == ["z/part.parquet"]


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("bucket")) if request.param == "s3" else f"{tmp_path}/in"


def test_another_output_below_the_input_is_none(place: str) -> None:
    """Its tables of masks would be read under the keys of the photographs."""
    table = parquet_bytes(pa.table({"key": ["a"], "image": [b"x"]}), 1)
    storage.put_whole(f"{place}/z/part.parquet", table)
    name = "20261128T093005-f8ff59-00000.parquet"
    for key in (f"masks/{name}", f"errors/{name}", "_runs/r/manifest/0.parquet", "_index/0.parquet"):
        storage.put_whole(f"{place}/day/out/{key}", table)
    source, ignored = open_source(place, "auto", f"{place}/out"), Ignored()
    assert [entry.key for entry in source.entries(ignored)] == ["z/part.parquet"]
    assert ignored.counts == {"output files": 2, "hidden names": 2}
    with pytest.raises(StorageError, match="ignored: 1 output file"):
        open_source(f"{place}/day/out/masks", "auto")


@pytest.mark.parametrize("more", [0, 3])
def test_of_what_img2dataset_writes_the_tars_are_the_data(place: str, more: int) -> None:
    """A table that lies beside no tar is one by itself; so is each where tables alone are asked for."""
    table = parquet_bytes(pa.table({"url": ["u"], "sha256": [b"x"]}), 1)
    for n in range(3):
        storage.put_whole(f"{place}/{n:05d}.tar", tar_bytes({"000.jpg": b"x", "000.json": b"{}"}))
        storage.put_whole(f"{place}/{n:05d}.parquet", table)
        storage.put_whole(f"{place}/{n:05d}_stats.json", b"{}")
    for n in range(more):
        storage.put_whole(f"{place}/{n + 3:05d}.parquet", table)
    source, ignored = open_source(place, "auto"), Ignored()
    tables = [f"{n + 3:05d}.parquet" for n in range(more)]
    assert sorted(entry.key for entry in source.entries(ignored)) == [f"{n:05d}.tar" for n in range(3)] + tables
    assert ignored.counts == {"metadata files": 3, ".json": 3}


def test_what_is_not_read_is_counted_and_said(place: str) -> None:
    names = [
        "a.jpg",
        "b.JFIF",
        "c.jpe",
        "t.parquet",
        "1.txt",
        "2.TXT",
        "3.txt",
        "README",
        "x.tar.gz",
        "y.tgz",
        "_log/x",
    ]
    for name in [*names, "sub/photo.3f9c2b7e1d"]:
        storage.put_whole(f"{place}/{name}", b"x")
    source, ignored = open_source(place, "images"), Ignored()
    assert sorted(entry.key for entry in source.entries(ignored)) == ["a.jpg", "b.JFIF", "c.jpe"]
    counts = {"Parquet files": 1, ".txt": 3, "other files": 2, ".tar.gz": 1, ".tgz": 1, "hidden names": 1}
    assert ignored.counts == counts
    *refused, told = ignored.lines()
    remedy = "a compressed tar cannot be read in parts; unpack it to .tar"
    assert sorted(refused) == [f"ignored: {place}/{name}: {remedy}" for name in ("x.tar.gz", "y.tgz")]
    assert told.startswith("ignored: 3 .txt, 2 other files, ")
    assert "1 Parquet file, " in told + ", "
    assert "1 hidden name" in told
    assert Ignored().lines() == []


def test_a_compressed_tar_alone_is_refused_by_name(place: str) -> None:
    storage.put_whole(f"{place}/x.tar.gz", b"x")
    with pytest.raises(
        StorageError, match=r"no images, .*x\.tar\.gz: a compressed tar cannot be read in parts; unpack"
    ):
        open_source(place, "auto")


def test_the_kinds_and_names_of_what_is_not_read_stay_few() -> None:
    ignored = Ignored()
    for n in range(300):
        ignored.add(storage.Skipped.BROKEN_LINK, f"in/{n}.jpg")
        ignored.add_file(storage.Entry(uri=f"in/{n}.{n}", key=f"{n}.{n}", size=1, version=""), None)
    assert sum(ignored.counts.values()) == 600
    assert len(ignored.counts) <= 51
    assert ignored.lines()[0] == "ignored: in/0.jpg: a link that leads nowhere, or to itself"
    assert len(ignored.lines()) == 11
    for n in range(300):
        ignored.add_no_input(NoInputError(f"in/{n}.parquet has no column", f"tables of kind {n % 2}"))
    assert len(ignored.counts) <= 51
    assert len(ignored.lines()) == 21


def test_a_file_larger_than_any_image_is_not_fetched(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/a.jpg", b"x" * 1000)
    storage.put_whole(f"{tmp_path}/in/b.jpg", b"x" * 1001)
    source = replace(open_source(f"{tmp_path}/in", "auto"), max_bytes=1000)
    found = {row["key"]: row for row in fetched_rows(source, listed(source, tmp_path / "manifest"))}
    assert found["a.jpg"]["image"] == b"x" * 1000
    assert (found["b.jpg"]["stage"], found["b.jpg"]["image"]) == ("fetch", None)
    assert "the file has 1001 bytes" in found["b.jpg"]["message"]


def test_a_table_s_rows_are_too_large_each_by_its_own_bytes(tmp_path: Path) -> None:
    """A footer tells but their mean, which one large row takes beyond what any other has."""
    sizes = [10, 5000, 1000, 1]
    images = pa.array([b"x" * size for size in sizes], pa.binary())
    for name, rows in (("t", [0, 1, 2, 3]), ("u", [0, 1, *[0] * 18])):  # their means are above 1000, and below
        table = pa.table({"key": [str(n) for n in range(len(rows))], "image": images.take(pa.array(rows))})
        storage.put_whole(f"{tmp_path}/in/{name}.parquet", parquet_bytes(table, 20, compression="none"))
    source = replace(open_source(f"{tmp_path}/in", "auto"), max_bytes=1000)
    found = fetched_rows(source, listed(source, tmp_path / "manifest"))
    for row, size in zip(found, [*sizes, 10, 5000, *[10] * 18], strict=True):
        if size == 5000:
            assert "the file has 5000 bytes" in row["message"]
        else:
            assert row["image"] == b"x" * size


def test_how_a_table_is_read_is_said_and_may_be_chosen(tmp_path: Path) -> None:
    table = pa.table({"left": [b"x"], "right": [b"y"], "id": ["a"], "note": ["b"]})
    storage.put_whole(f"{tmp_path}/in/a.parquet", parquet_bytes(table, 2))
    with pytest.raises(ConfigError, match=r"in/a.parquet has 2 columns that fit equally, left, right; .* --image-"):
        open_source(f"{tmp_path}/in", "auto")
    source = open_source(f"{tmp_path}/in", "auto", columns=ColumnNames(image="right", key="note"))
    assert source.reading[0] == f"{tmp_path}/in/a.parquet: images from column `right`, keys from `note`"
    [row] = fetched_rows(source, listed(source, tmp_path / "manifest"))
    assert (row["key"], row["image"]) == ("a.parquet/b", b"y")
    storage.put_whole(f"{tmp_path}/pictures/a.jpg", b"x")
    assert open_source(f"{tmp_path}/pictures", "auto").reading == []
    with pytest.raises(ConfigError, match="the columns of a table, and the input is images; leave them out"):
        open_source(f"{tmp_path}/pictures", "auto", columns=ColumnNames(key="note"))


def test_a_shard_whose_name_is_not_utf_8_fails_alone(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/a.tar", tar_bytes({"a.jpg": b"x"}))
    (tmp_path / "in" / os.fsdecode(b"caf\xe9.tar")).write_bytes(tar_bytes({"b.jpg": b"x"}))
    found = {row["key"]: row for row in fetched(f"{tmp_path}/in", tmp_path)}
    assert (found["a.tar/a"]["image"], found[r"caf\udce9.tar"]["stage"]) == (b"x", "list")
    assert "not UTF-8; rename" in found[r"caf\udce9.tar"]["message"]


def test_images_keep_their_path_below_the_input(tmp_path: Path) -> None:
    for name in ("a.jpg", "sub/b with space.JPeG", "sub/c.txt"):
        storage.put_whole(f"{tmp_path}/in/{name}", name.encode())
    found = {row["key"]: row for row in fetched(f"{tmp_path}/in", tmp_path)}
    assert set(found) == {"a.jpg", "sub/b with space.JPeG"}
    assert found["a.jpg"]["image"] == b"a.jpg"
    assert found["a.jpg"]["source"] == f"{tmp_path}/in/a.jpg"
    assert found["a.jpg"]["digest"] == hashlib.sha256(b"a.jpg").hexdigest()


def test_a_file_name_that_is_not_utf_8_fails_alone(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/a.jpg", b"x")
    (tmp_path / "in" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    found = {row["key"]: row for row in fetched(f"{tmp_path}/in", tmp_path)}
    assert found["a.jpg"]["image"] == b"x"
    failed = found[r"caf\udce9.jpg"]
    assert (failed["stage"], failed["source"]) == ("list", rf"{tmp_path}/in/caf\udce9.jpg")
    assert "not UTF-8; rename" in failed["message"]


def test_a_member_name_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    data = tar_bytes({"caf\u00e9.jpg": b"x", "b.jpg": b"y"}, format=tarfile.GNU_FORMAT, encoding="latin-1")
    storage.put_whole(f"{tmp_path}/in/a.tar", data)
    assert {row["key"]: row["image"] for row in fetched(f"{tmp_path}/in", tmp_path)} == {
        r"a.tar/caf\udce9": b"x",
        "a.tar/b": b"y",
    }
    storage.put_whole(f"{tmp_path}/in/a.tar", data[:512])
    [row] = fetched(f"{tmp_path}/in", tmp_path)
    assert (row["key"], row["stage"]) == ("a.tar", "list")
    assert r"ends within caf\udce9.jpg" in row["message"]


def test_one_image_alone(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/a.jpg", b"x")
    [row] = fetched(f"{tmp_path}/in/a.jpg", tmp_path)
    assert (row["key"], row["image"]) == ("a.jpg", b"x")


def test_an_object_that_is_gone_becomes_a_failed_row(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        storage.put_whole(f"{tmp_path}/in/{name}", b"x")
    source = open_source(f"{tmp_path}/in", "auto")
    manifest = listed(source, tmp_path / "manifest")
    (tmp_path / "in" / "a.jpg").unlink()
    assert {row["key"]: (row["stage"], row["error"]) for row in fetched_rows(source, manifest)} == {
        "a.jpg": ("fetch", "StorageError"),
        "b.jpg": (None, None),
    }


def test_parquet_struct_and_key_column(tmp_path: Path) -> None:
    struct = [{"bytes": bytes([i]) * 10, "path": f"p{i}"} for i in range(50)]
    table = pa.table({"caption": ["c"] * 50, "id": list(range(50)), "image": struct})
    storage.put_whole(f"{tmp_path}/in/a.parquet", parquet_bytes(table, row_group_size=20))
    found = {row["key"]: row["image"] for row in fetched(f"{tmp_path}/in", tmp_path)}
    assert found == {f"a.parquet/{i}": bytes([i]) * 10 for i in range(50)}


@pytest.mark.parametrize("keys", [["", "k", None, ""], [b"", b"k", None, b""]])
def test_an_empty_key_of_a_table_is_none(tmp_path: Path, keys: list[Any]) -> None:
    table = pa.table({"key": keys, "image": [b"0", b"1", b"2", b"3"]})
    storage.put_whole(f"{tmp_path}/in/a.parquet", parquet_bytes(table, 4))
    found = {row["key"]: row["image"] for row in fetched(f"{tmp_path}/in", tmp_path)}
    assert found == {"a.parquet#0": b"0", "a.parquet/k": b"1", "a.parquet#2": b"2", "a.parquet#3": b"3"}


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_parquet_binary_without_key_and_with_a_null(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"note": ["n"] * 3, "content": pa.array([b"one", None, b"three"], kind)})
    storage.put_whole(f"{tmp_path}/in/b.parquet", parquet_bytes(table, row_group_size=2))
    found = {row["key"]: row for row in fetched(f"{tmp_path}/in", tmp_path)}
    assert found["b.parquet#0"]["image"] == b"one"
    assert found["b.parquet#2"]["image"] == b"three"
    assert (found["b.parquet#1"]["stage"], found["b.parquet#1"]["image"]) == ("fetch", None)
    assert "null" in found["b.parquet#1"]["message"]


def test_parquet_without_images_is_refused_before_any_work(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/c.parquet", parquet_bytes(pa.table({"x": [1, 2]}), row_group_size=2))
    with pytest.raises(ConfigError, match=r"c\.parquet has no column of encoded images.*x: int64"):
        open_source(f"{tmp_path}/in", "auto")
