"""Keys and members that mean harm, or are merely odd: each is a row under the name it has, and nothing else happens."""

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import masks, storage
from pipeline.batch.rows import FINISHED
from pipeline.batch.sink import write_files
from pipeline.data import rows
from tests.helpers.dataset import finished_row, info
from tests.helpers.shards import fetched, parquet_bytes, tar_bytes

NAMES = (
    "with space",
    "ünï çødé 图片 🙂",
    "new\nline\ttab",
    "percent%2Fplus+&?#[1]*",
    "quote'\"<script>",
    "/".join(["n" * 199] * 5),
)


@pytest.mark.parametrize("layout", ["objects", "tar", "parquet"])
def test_odd_keys_come_through(bucket: str, tmp_path: Path, layout: str) -> None:
    """From an S3 server, whose listing has to carry them, into the output and back."""
    images = {name: name.encode() for name in NAMES}
    if layout == "objects":
        for name, data in images.items():
            storage.put_whole(f"{bucket}/in/{name}.jpg", data)
    elif layout == "tar":
        storage.put_whole(f"{bucket}/in/a.tar", tar_bytes({f"{name}.jpg": data for name, data in images.items()}))
    else:
        table = pa.table({"key": list(images), "image": list(images.values())})
        storage.put_whole(f"{bucket}/in/a.parquet", parquet_bytes(table, 2))
    found = {row["key"]: row["image"] for row in fetched(f"{bucket}/in", tmp_path)}
    named = {"objects": "{}.jpg", "tar": "a.tar/{}", "parquet": "a.parquet/{}"}[layout]
    assert found == {named.format(name): data for name, data in images.items()}
    write_files(f"{bucket}/out", "a.parquet", info(), rows.table([finished_row(key) for key in found], FINISHED))
    assert {key for key, _ in masks.read(f"{bucket}/out")} == set(found)


def test_members_that_point_elsewhere_are_names_and_nothing_more(tmp_path: Path) -> None:
    names = ("../../outside.jpg", "/etc/absolute.jpg", "a/../../b.jpg", "./c.jpg")
    storage.put_whole(f"{tmp_path}/in/a.tar", tar_bytes({name: name.encode() for name in names}))
    found = {row["key"]: row["image"] for row in fetched(f"{tmp_path}/in", tmp_path)}
    assert found == {
        "a.tar/../../outside": b"../../outside.jpg",
        "a.tar//etc/absolute": b"/etc/absolute.jpg",
        "a.tar/a/../../b": b"a/../../b.jpg",
        "a.tar/c": b"./c.jpg",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "manifest"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.BLKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_a_device_is_a_failed_row(tmp_path: Path, kind: bytes) -> None:
    """Of what it points to nothing is read; and it is not left out in silence, as a folder is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, type_ in (("good.jpg", tarfile.REGTYPE), ("odd.jpg", kind), ("folder.jpg", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = type_, "/etc/passwd"
            archive.addfile(member)
    storage.put_whole(f"{tmp_path}/in/a.tar", buffer.getvalue())
    found = {row["key"]: row for row in fetched(f"{tmp_path}/in", tmp_path)}
    assert set(found) == {"a.tar/good", "a.tar/odd"}
    good, odd = found["a.tar/good"], found["a.tar/odd"]
    assert (good["error"], good["image"]) == (None, b"")
    assert (odd["stage"], odd["error"], odd["image"]) == ("list", "ShardError", None)
    assert "odd.jpg is a link, a device or a sparse file" in odd["message"]
