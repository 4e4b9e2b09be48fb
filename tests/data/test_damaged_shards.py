"""Damaged, changed, vanished and refused files give rows, right or failed; a failing storage is told apart."""

import errno
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec.implementations.local
import pyarrow as pa
import pytest
import s3fs

from pipeline import storage
from pipeline.data.formats import InputFormat
from pipeline.data.formats.parquet import Parquet
from pipeline.data.index import index_shard
from pipeline.data.source import open_source
from pipeline.errors import ShardError, StorageError
from tests.helpers.s3_proxy import S3Proxy
from tests.helpers.servers import LISTER_KEY, new_bucket
from tests.helpers.shards import encrypted_bytes, fetched, fetched_rows, listed, parquet_bytes, tar_bytes

ROWS = 60
IMAGES = {f"k{i:02d}": random.Random(i).randbytes(40 + 13 * i) for i in range(ROWS)}


def table(struct: bool) -> pa.Table:
    cells = [{"bytes": data, "path": None} for data in IMAGES.values()] if struct else list(IMAGES.values())
    return pa.table({"key": list(IMAGES), "image": cells})


def name(row: dict[str, Any]) -> str:
    """What an image is called in its shard."""
    return str(row["key"]).rpartition("/")[2]


def damages(data: bytes, seed: int, everywhere: int, footer: int = 0) -> Iterator[tuple[str, bytes]]:
    """Copies of `data` with one bit flipped, the last `footer` bytes being hit as often as the rest, or cut short."""
    rng = random.Random(seed)
    places = [rng.randrange(len(data)) for _ in range(everywhere)]
    places += [len(data) - 1 - rng.randrange(footer) for _ in range(everywhere if footer else 0)]
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        yield f"bit of byte {place}", bytes(flipped)
    for _ in range(everywhere // 4):
        place = rng.randrange(len(data))
        yield f"cut at {place}", data[:place]


def accounted(uri: str, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Good and failed rows of an input of one shard, after it is seen that every listed row is there once."""
    source = open_source(uri, "auto")
    manifest = listed(source, folder)
    found = fetched_rows(source, manifest)
    assert len(found) == manifest.rows
    assert len({row["key"] for row in found}) == len(found)
    failed = [row for row in found if row["error"] is not None]
    assert all(row["image"] is None and row["message"] and row["source"].startswith(uri) for row in failed)
    return [row for row in found if row["error"] is None], failed


@pytest.mark.parametrize(("compression", "struct"), [("snappy", True), ("zstd", False), ("none", False)])
def test_a_damaged_parquet_file_gives_right_rows_or_failed_ones(tmp_path: Path, compression: str, struct: bool) -> None:
    whole = parquet_bytes(table(struct), 15, compression=compression, write_page_checksum=True)
    footer = 8 + int.from_bytes(whole[-8:-4], "little")
    stages = set()
    for what, data in damages(whole, seed=len(whole), everywhere=32, footer=footer):
        storage.put_whole(f"{tmp_path}/in/a.parquet", data)
        good, failed = accounted(f"{tmp_path}/in", tmp_path / "manifest")
        assert all(IMAGES[name(row)] == row["image"] for row in good), what
        stopped = [row for row in failed if row["stage"] == "list"]
        assert [row["key"] for row in stopped] == ["a.parquet"] * len(stopped), what
        assert len(good) + len(failed) == ROWS or len(stopped) == 1, what
        stages |= {row["stage"] for row in failed}
    assert stages == {"list", "fetch"}


@pytest.mark.parametrize("plaintext_footer", [True, False])
@pytest.mark.parametrize("column", ["image", "key"])
def test_an_encrypted_parquet_file_is_one_failed_row(tmp_path: Path, column: str, plaintext_footer: bool) -> None:
    data = encrypted_bytes(table(struct=False), column, plaintext_footer=plaintext_footer)
    storage.put_whole(f"{tmp_path}/in/a.parquet", data)
    storage.put_whole(f"{tmp_path}/in/b.parquet", parquet_bytes(table(struct=False), 15))
    good, [failed] = accounted(f"{tmp_path}/in", tmp_path / "manifest")
    assert len(good) == ROWS
    assert (failed["key"], failed["error"]) == ("a.parquet", "ShardError")
    assert "a.parquet is not a readable Parquet file" in failed["message"]


def test_a_damaged_row_group_costs_its_own_images(tmp_path: Path) -> None:
    whole = bytearray(parquet_bytes(table(False), 15, compression="none", write_page_checksum=True))
    whole[whole.index(IMAGES["k20"]) + 5] ^= 1
    storage.put_whole(f"{tmp_path}/in/a.parquet", bytes(whole))
    good, failed = accounted(f"{tmp_path}/in", tmp_path / "manifest")
    assert [name(row) for row in good] == [f"k{i:02d}" for i in range(ROWS) if not 15 <= i < 30]
    assert {name(row) for row in failed} == {f"k{i:02d}" for i in range(15, 30)}
    assert {(row["stage"], row["error"]) for row in failed} == {("fetch", "ShardError")}
    assert "a.parquet is not a readable Parquet file: could not verify page integrity" in failed[0]["message"]


def test_a_damaged_key_column_keeps_what_came_before(tmp_path: Path) -> None:
    whole = bytearray(parquet_bytes(table(False), 15, compression="none", use_dictionary=False))
    whole[whole.index(b"k31")] = 0xFF  # no UTF-8 any more
    storage.put_whole(f"{tmp_path}/in/a.parquet", bytes(whole))
    good, [failed] = accounted(f"{tmp_path}/in", tmp_path / "manifest")
    assert [name(row) for row in good] == [f"k{i:02d}" for i in range(30)]
    assert (failed["key"], failed["stage"], failed["error"]) == ("a.parquet", "list", "ShardError")


def test_a_damaged_tar_never_ends_early_in_silence(tmp_path: Path) -> None:
    """Payloads carry no checksum, so only names and the count can be held against the truth."""
    whole = tar_bytes({f"{key}.jpg": data for key, data in IMAGES.items()})
    for what, data in damages(whole, seed=1, everywhere=32):
        storage.put_whole(f"{tmp_path}/in/a.tar", data)
        good, failed = accounted(f"{tmp_path}/in", tmp_path / "manifest")
        assert [name(row) for row in good] == list(IMAGES)[: len(good)], what
        assert [len(row["image"]) for row in good] == [len(data) for data in IMAGES.values()][: len(good)], what
        assert [(row["key"], row["stage"]) for row in failed] == [("a.tar", "list")] * len(failed), what
        assert len(good) == ROWS or len(failed) == 1, what


@pytest.mark.parametrize(
    ("file", "data"), [("a.parquet", parquet_bytes(table(True), 15)), ("a.tar", tar_bytes({"k00.jpg": b"x" * 99}))]
)
@pytest.mark.parametrize("where", ["local", "s3"])
def test_a_shard_that_changes_or_goes_after_the_listing_fails_its_images(
    tmp_path: Path, bucket: str, where: str, file: str, data: bytes
) -> None:
    uri = f"{tmp_path}/in" if where == "local" else bucket
    storage.put_whole(f"{uri}/{file}", data)
    source = open_source(uri, "auto")
    [entry] = source.entries()
    manifest = listed(source, tmp_path / "manifest")
    storage.put_whole(f"{uri}/{file}", data.replace(b"k", b"j") + b"more")
    for _ in ("changed", "gone"):
        found = fetched_rows(source, manifest)
        assert len(found) == manifest.rows > 0
        assert {(row["stage"], row["error"], row["image"]) for row in found} == {("fetch", "ShardError", None)}
        assert f"{file} is gone or has changed since it was listed" in found[0]["message"]
        [again] = [row for part in index_shard(entry, source.reader(entry)) for row in part.to_pylist()]
        assert (again["key"], again["stage"], again["error"]) == (file, "list", "ShardError")
        if storage.exists(entry.uri):
            storage.delete(entry.uri)


def test_a_parquet_file_replaced_while_it_is_read_mixes_nothing(bucket: str) -> None:
    storage.put_whole(f"{bucket}/a.parquet", parquet_bytes(table(True), 15))
    [entry] = storage.list_files(bucket)
    rows = [{"path": "a.parquet", "version": entry.version, "row": number} for number in range(ROWS)]
    reading = Parquet().fetch(bucket, rows)
    first = next(reading)
    storage.put_whole(f"{bucket}/a.parquet", parquet_bytes(table(True).sort_by([("key", "descending")]), 15))
    rest = [fetched for part in reading for fetched in part]
    assert [(row["row"], image) for row, image in first] == list(enumerate(IMAGES.values()))[:15]
    assert sorted(row["row"] for row, _ in rest) == list(range(15, ROWS))
    assert all(isinstance(image, ShardError) for _, image in rest)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AWS_ACCESS_KEY_ID", LISTER_KEY, r"a\.parquet: access denied"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", r"a\.parquet: no connection"),
    ],
)
def test_a_storage_that_fails_is_no_damage(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    storage.put_whole(f"{bucket}/a.parquet", parquet_bytes(table(True), 15))
    source = open_source(bucket, "auto")
    [entry] = source.entries()
    manifest = listed(source, tmp_path / "manifest")
    monkeypatch.setenv(variable, value)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        if variable != "AWS_ENDPOINT_URL":  # it takes its time to give up
            with pytest.raises(StorageError, match=said):
                list(index_shard(entry, source.reader(entry)))
        with pytest.raises(StorageError, match=said):
            fetched_rows(source, manifest)
    finally:
        monkeypatch.undo()
        s3fs.S3FileSystem.clear_instance_cache()


def test_what_s3_refuses_of_an_object_costs_that_object(proxy: S3Proxy, tmp_path: Path) -> None:
    """A key of KMS that is disabled, a key of the customer's that was not sent, an archive: others are read."""
    bucket = new_bucket()
    table = parquet_bytes(pa.table({"key": ["a", "b"], "image": [b"a", b"b"]}), 1)
    for name in ("denied.jpg", "kms.jpg", "customer.jpg", "archived.jpg", "good.jpg"):
        storage.put_whole(f"{bucket}/{name}", b"x")
    for name, data in {"kms.tar": tar_bytes({"a.jpg": b"x"}), "table.parquet": table, "good.parquet": table}.items():
        storage.put_whole(f"{bucket}/{name}", data)
    encrypted = ("kms.jpg", "kms.tar", "table.parquet")
    proxy.refusals |= {("GET", name): (400, "KMS.DisabledException") for name in encrypted}
    proxy.refusals |= {
        ("HEAD", "archived.jpg"): (403, ""),  # the first that is looked at
        ("HEAD", "customer.jpg"): (400, ""),
        ("GET", "customer.jpg"): (400, "InvalidRequest"),
        ("GET", "archived.jpg"): (403, "InvalidObjectState"),
        ("GET", "denied.jpg"): (403, "AccessDenied"),
    }
    found = {row["key"]: row["image"] or row["stage"] for row in fetched(bucket, tmp_path)}
    assert found == {
        "good.jpg": b"x",
        "good.parquet/a": b"a",
        "good.parquet/b": b"b",
        **dict.fromkeys(("denied.jpg", "kms.jpg", "customer.jpg", "archived.jpg"), "fetch"),
        **dict.fromkeys(("kms.tar", "table.parquet"), "list"),
    }


@pytest.mark.parametrize("input_format", ["auto", "list"])
def test_credentials_that_s3_no_longer_takes_end_the_run(
    proxy: S3Proxy, tmp_path: Path, input_format: InputFormat
) -> None:
    """The same command continues it; rows of errors/ would count as done."""
    bucket = new_bucket()
    storage.put_whole(f"{bucket}/a.jpg", b"x")
    storage.put_whole(f"{tmp_path}/list.txt", f"{bucket}/a.jpg".encode())
    source = open_source(f"{tmp_path}/list.txt" if input_format == "list" else bucket, input_format)
    manifest = listed(source, tmp_path / "manifest")
    proxy.refusals |= {("HEAD", "a.jpg"): (400, ""), ("GET", "a.jpg"): (400, "ExpiredToken")}
    with pytest.raises(StorageError, match=r"a\.jpg: access denied"):
        fetched_rows(source, manifest)


def test_an_object_that_is_refused_after_the_listing_becomes_failed_rows(proxy: S3Proxy, tmp_path: Path) -> None:
    bucket = new_bucket()
    storage.put_whole(f"{bucket}/a.tar", tar_bytes({"a.jpg": b"a", "b.jpg": b"b"}))
    storage.put_whole(f"{bucket}/b.parquet", parquet_bytes(pa.table({"image": [b"x", b"y"]}), 1))
    source = open_source(bucket, "auto")
    manifest = listed(source, tmp_path / "manifest")
    proxy.refusals |= {("GET", name): (400, "KMS.DisabledException") for name in ("a.tar", "b.parquet")}
    found = fetched_rows(source, manifest)
    assert [(row["key"], row["stage"]) for row in found] == [
        (key, "fetch") for key in ("a.tar/a", "a.tar/b", "b.parquet#0", "b.parquet#1")
    ]
    assert all("KMS.DisabledException" in row["message"] for row in found)


def test_a_local_file_without_permission_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read all, so the refusal is played. Where none of the first files can be read, nothing begins."""
    table = parquet_bytes(pa.table({"key": ["x"], "image": [b"x"]}), 1)
    for name, data in {"x.jpg": b"x", "x.tar": tar_bytes({"x.jpg": b"x"}), "y.parquet": table}.items():
        storage.put_whole(f"{tmp_path}/in/denied/{name}", data)

    def refusing(path: str, **more: Any) -> Any:
        if "/denied/" in path:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open(path, **more)

    monkeypatch.setattr(fsspec.implementations.local, "open", refusing, raising=False)
    with pytest.raises(StorageError, match=r"in/denied/\w\.\w+: access denied"):
        open_source(f"{tmp_path}/in", "auto")
    storage.put_whole(f"{tmp_path}/in/good/x.jpg", b"good")
    found = {row["key"]: row["image"] or (row["stage"], row["message"]) for row in fetched(f"{tmp_path}/in", tmp_path)}
    assert found.pop("good/x.jpg") == b"good"
    assert {key: stage for key, (stage, _) in found.items()} == {
        "denied/x.jpg": "fetch",
        "denied/x.tar": "list",
        "denied/y.parquet": "list",
    }
    assert all("access denied" in message for _, message in found.values())
