"""What the input holds, listed without fetching an image, and fetched back row by row."""

import hashlib
import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.data.formats import FORMATS, ColumnNames, formats_read
from pipeline.data.ignored import Ignored
from pipeline.data.index import index_name, index_shard
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


def test_nothing_to_segment_is_said(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/readme.md", b"x")
    with pytest.raises(StorageError, match=r"no images, tar files.* or .* files among.*readme\.md"):
        open_source(f"{tmp_path}/in", "auto")
    with pytest.raises(StorageError, match="no tar files"):
        open_source(f"{tmp_path}/in", "webdataset")
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


def test_a_file_larger_than_any_image_is_not_fetched(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/a.jpg", b"x" * 1000)
    storage.put_whole(f"{tmp_path}/in/b.jpg", b"x" * 1001)
    source = replace(open_source(f"{tmp_path}/in", "auto"), max_bytes=1000)
    found = {row["key"]: row for row in fetched_rows(source, listed(source, tmp_path / "manifest"))}
    assert found["a.jpg"]["image"] == b"x" * 1000
    assert (found["b.jpg"]["stage"], found["b.jpg"]["image"]) == ("fetch", None)
    assert "the file has 1001 bytes" in found["b.jpg"]["message"]


def test_a_sparse_member_fails_alone(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    with (folder / "s.jpg").open("wb") as hole:
        hole.truncate(10_000_000)
    (folder / "t.jpg").write_bytes(b"plain")
    subprocess.run(["tar", "--sparse", "-cf", f"{tmp_path}/in.tar", "s.jpg", "t.jpg"], cwd=folder, check=True)
    found = {row["key"]: row for row in fetched(f"{tmp_path}/in.tar", tmp_path)}
    assert found["in.tar/t"]["image"] == b"plain"
    assert "a sparse file" in found["in.tar/s"]["message"]


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


def test_tar_members(tmp_path: Path) -> None:
    long_name = "d/" * 60 + "long.jpg"
    members = {f"s/{i:03d}.v1.jpg": bytes([i]) * (i * 700) for i in range(40)}
    members |= {"s/000.json": b"{}", "x.PNG": b"png", long_name: b"long", "._junk.jpg": b"mac"}
    storage.put_whole(f"{tmp_path}/in/shard.tar", tar_bytes(members))
    found = {row["key"]: row["image"] for row in fetched(f"{tmp_path}/in", tmp_path)}
    wanted = {f"s/{i:03d}.v1": bytes([i]) * (i * 700) for i in range(40)}
    wanted |= {"x": b"png", long_name.removesuffix(".jpg"): b"long"}
    assert found == {f"shard.tar/{name}": data for name, data in wanted.items()}


def test_a_tar_cut_in_the_middle_keeps_what_came_before(tmp_path: Path) -> None:
    whole = tar_bytes({f"{i}.jpg": bytes([i]) * 2000 for i in range(10)})
    storage.put_whole(f"{tmp_path}/in/cut.tar", whole[: 3 * 2560 + 600])
    found = {row["key"]: row for row in fetched(f"{tmp_path}/in", tmp_path)}
    assert [found[f"cut.tar/{i}"]["image"] for i in range(3)] == [bytes([i]) * 2000 for i in range(3)]
    assert found["cut.tar"]["stage"] == "list"
    assert "not a readable tar" in found["cut.tar"]["message"]


def test_tars_one_after_the_other_are_all_read(tmp_path: Path) -> None:
    """`cat a.tar b.tar > c.tar`: where zeros end an archive, another may follow."""
    first = tar_bytes({f"a{n}.jpg": bytes([n]) * 700 for n in range(2)})
    second = tar_bytes({f"b{n}.jpg": bytes([n]) * 900 for n in range(3)}, format=tarfile.GNU_FORMAT)
    storage.put_whole(f"{tmp_path}/in/c.tar", first + second)
    wanted = {f"c.tar/a{n}": bytes([n]) * 700 for n in range(2)}
    wanted |= {f"c.tar/b{n}": bytes([n]) * 900 for n in range(3)}
    assert {row["key"]: row["image"] for row in fetched(f"{tmp_path}/in", tmp_path)} == wanted


@pytest.mark.parametrize("zeros", [512, 1024, 10240, 10240 + 300])
def test_zeros_may_follow_the_end_of_a_tar(tmp_path: Path, zeros: int) -> None:
    whole = tar_bytes({"a.jpg": b"x"}).rstrip(b"\0")
    whole += bytes(-len(whole) % 512)
    storage.put_whole(f"{tmp_path}/in/a.tar", whole + bytes(zeros))
    assert [row["key"] for row in fetched(f"{tmp_path}/in", tmp_path)] == ["a.tar/a"]


@pytest.mark.parametrize("what", ["header overwritten", "text behind the end"])
def test_what_is_lost_in_a_tar_is_one_failed_row(tmp_path: Path, what: str) -> None:
    whole = bytearray(tar_bytes({f"{n}.jpg": b"\1" * 2000 for n in range(5)}, format=tarfile.GNU_FORMAT))
    if what == "text behind the end":
        whole += b"checksum: none\n"
    else:
        whole[2560 * 2 : 2560 * 2 + 512] = bytes(512)
    storage.put_whole(f"{tmp_path}/in/a.tar", bytes(whole))
    rows = {row["key"]: row for row in fetched(f"{tmp_path}/in", tmp_path)}
    left = range(5 if what == "text behind the end" else 2)
    assert sorted(rows) == ["a.tar", *(f"a.tar/{n}" for n in left)]
    assert "no header and no end of the archive at byte" in rows["a.tar"]["message"]


def test_an_index_made_by_an_older_rule_is_not_used(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/a.tar", tar_bytes({"a.jpg": b"x"}))
    [entry] = storage.list_files(f"{tmp_path}/in")
    assert index_name(entry, FORMATS["webdataset"]) != index_name(entry, FORMATS["images"])


def test_what_is_no_tar_is_one_failed_row(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/no.tar", b"not a tar at all" * 100)
    [row] = fetched(f"{tmp_path}/in", tmp_path)
    assert (row["key"], row["stage"]) == ("no.tar", "list")


def test_parquet_struct_and_key_column(tmp_path: Path) -> None:
    struct = [{"bytes": bytes([i]) * 10, "path": f"p{i}"} for i in range(50)]
    table = pa.table({"caption": ["c"] * 50, "id": list(range(50)), "image": struct})
    storage.put_whole(f"{tmp_path}/in/a.parquet", parquet_bytes(table, row_group_size=20))
    found = {row["key"]: row["image"] for row in fetched(f"{tmp_path}/in", tmp_path)}
    assert found == {f"a.parquet/{i}": bytes([i]) * 10 for i in range(50)}


def test_parquet_binary_without_key_and_with_a_null(tmp_path: Path) -> None:
    table = pa.table({"note": ["n"] * 3, "content": pa.array([b"one", None, b"three"], pa.binary())})
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
