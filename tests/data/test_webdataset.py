"""Tars as they come: long names, several in one file, cut, overwritten, or none at all."""

import subprocess
import tarfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.data.formats.webdataset import _members
from pipeline.errors import ShardError
from tests.helpers.reads import read_sizes
from tests.helpers.shards import fetched, tar_bytes


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


def test_tar_members(tmp_path: Path) -> None:
    long_name = "d/" * 60 + "long.jpg"
    members = {f"s/{i:03d}.v1.jpg": bytes([i]) * (i * 700) for i in range(40)}
    members |= {"s/000.json": b"{}", "x.PNG": b"png", long_name: b"long", "._junk.jpg": b"mac"}
    storage.put_whole(f"{tmp_path}/in/shard.tar", tar_bytes(members))
    found = {row["key"]: row["image"] for row in fetched(f"{tmp_path}/in", tmp_path)}
    wanted = {f"s/{i:03d}.v1": bytes([i]) * (i * 700) for i in range(40)}
    wanted |= {"x": b"png", long_name.removesuffix(".jpg"): b"long"}
    assert found == {f"shard.tar/{name}": data for name, data in wanted.items()}


def test_an_empty_member_far_from_others_is_read_too(bucket: str, tmp_path: Path) -> None:
    """Its range merges with none, and a server that is asked for no byte answers with an error."""
    members = {"a.jpg": b"x", "filler.bin": bytes(2**20), "empty.jpg": b"", "more.bin": bytes(2**20), "b.jpg": b"y"}
    storage.put_whole(f"{bucket}/in.tar", tar_bytes(members))
    found = {row["key"]: row["image"] for row in fetched(f"{bucket}/in.tar", tmp_path)}
    assert found == {"in.tar/a": b"x", "in.tar/empty": b"", "in.tar/b": b"y"}


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


def header(kind: bytes = tarfile.REGTYPE, size: int = 0, records: Mapping[str, str] = {}) -> bytes:
    """Of b.jpg, after a member with pax records where there are some."""
    member = tarfile.TarInfo("b.jpg")
    member.type, member.size, member.pax_headers = kind, size, dict(records)
    return member.tobuf(tarfile.PAX_FORMAT if records else tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "wrong",
    [
        header(size=-512),
        header(tarfile.XHDTYPE, -512),
        header(tarfile.GNUTYPE_LONGNAME, 2**70),
        header(tarfile.GNUTYPE_LONGNAME, 2**32),
        header(records={"size": "-512"}),
        header(records={"size": "-512", "GNU.sparse.map": "0,0"}),
    ],
)
def test_a_size_that_cannot_be_ends_the_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bytes) -> None:
    """By a negative one Python comes back to where it was, for ever; by others it takes all the rest into memory."""
    whole = tar_bytes({"a.jpg": b"x"}).rstrip(b"\0")
    storage.put_whole(f"{tmp_path}/a.tar", whole + bytes(-len(whole) % 512) + wrong + bytes(2**22))
    sizes = read_sizes(monkeypatch)
    [entry] = storage.list_files(f"{tmp_path}/a.tar")
    found = []
    with pytest.raises(ShardError, match=r"a\.tar is not a readable tar: b\.jpg cannot have"):
        found.extend(row["name"] for row in islice(_members(entry), 10))
    assert max(sizes) <= 2**20
    monkeypatch.undo()
    rows = {row["key"]: row["stage"] for row in fetched(f"{tmp_path}/a.tar", tmp_path)}
    assert rows == {"a.tar/a": None, "a.tar": "list"}


@pytest.mark.parametrize(
    "records",
    [
        {"GNU.sparse.size": "many"},
        {"GNU.sparse.map": "0,x"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "b.jpg", "GNU.sparse.realsize": "9"},
        {"GNU.sparse.map": "0,0", "size": str(2**70)},
    ],
)
def test_a_sparse_header_that_cannot_be_ends_the_tar(tmp_path: Path, records: dict[str, str]) -> None:
    whole = tar_bytes({"a.jpg": b"x"}).rstrip(b"\0")
    storage.put_whole(f"{tmp_path}/a.tar", whole + bytes(-len(whole) % 512) + header(records=records) + bytes(2**14))
    rows = {row["key"]: row for row in fetched(f"{tmp_path}/a.tar", tmp_path)}
    assert {key: row["stage"] for key, row in rows.items()} == {"a.tar/a": None, "a.tar": "list"}
    assert "a.tar is not a readable tar" in rows["a.tar"]["message"]


def test_what_is_no_tar_is_one_failed_row(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/no.tar", b"not a tar at all" * 100)
    [row] = fetched(f"{tmp_path}/in", tmp_path)
    assert (row["key"], row["stage"]) == ("no.tar", "list")
