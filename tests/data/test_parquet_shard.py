"""Which columns of a Parquet file hold images and keys, and what reading them costs."""

import threading
from pathlib import Path

import pyarrow as pa
import pytest
import s3fs.core

from pipeline import storage
from pipeline.batch.fetch import _fetch_cells
from pipeline.data import parquet_shard
from pipeline.data.parquet_shard import Column
from pipeline.data.source import open_source
from pipeline.errors import ConfigError
from tests.helpers.s3_proxy import s3_proxy
from tests.helpers.servers import new_bucket
from tests.helpers.shards import parquet_bytes


def test_columns_are_chosen_by_kind_then_name() -> None:
    binary, text = pa.binary(), pa.string()
    struct = pa.struct([("bytes", binary), ("path", text)])
    chosen = parquet_shard.choose_columns(pa.schema([("blob", binary), ("picture", struct), ("url", text)]), "u")
    assert (chosen.image, chosen.key) == (Column("picture", "bytes"), Column("url"))
    chosen = parquet_shard.choose_columns(
        pa.schema([("other", binary), ("jpg", pa.large_binary()), ("text", text)]), "u"
    )
    assert (chosen.image, chosen.key) == (Column("jpg"), None)
    assert parquet_shard.choose_columns(pa.schema([("image", struct)]), "u").key == Column("image", "path")
    lists = pa.struct([("bytes", pa.list_(binary))])
    assert parquet_shard.choose_columns(pa.schema([("image", lists), ("raw", binary)]), "u").image == Column("raw")
    with pytest.raises(ConfigError, match="x: int64"):
        parquet_shard.choose_columns(pa.schema([("x", pa.int64())]), "u")


def test_a_column_may_have_a_dot_in_its_name(tmp_path: Path) -> None:
    table = pa.table({"image.bytes": [b"x", b"y"], "note": ["n", "m"]})
    storage.put_whole(f"{tmp_path}/a.parquet", parquet_bytes(table, 2))
    [entry] = storage.list_files(f"{tmp_path}/a.parquet")
    assert list(parquet_shard.keys(entry.uri, entry.version)) == [[None, None]]
    assert list(parquet_shard.images(entry.uri, entry.version, [1])) == [{1: b"y"}]


def test_large_images_are_decoded_a_few_at_a_time(tmp_path: Path) -> None:
    pictures = [bytes([n]) * 30_000_000 for n in range(6)]
    table = pa.table({"key": [str(n) for n in range(6)], "image": pictures})
    storage.put_whole(f"{tmp_path}/a.parquet", parquet_bytes(table, 6, compression="none", use_dictionary=False))
    [entry] = storage.list_files(f"{tmp_path}/a.parquet")
    found = list(parquet_shard.images(entry.uri, entry.version, range(6)))
    assert [len(some) for some in found] == [2, 2, 2]
    assert {n: image for some in found for n, image in some.items()} == dict(enumerate(pictures))


def test_keys_cost_no_images_and_some_images_not_all(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that come over the wire, as counted beneath s3fs's files."""
    images = [bytes([i]) * 100_000 for i in range(20)]
    table = pa.table({"key": [str(i) for i in range(20)], "image": images})
    storage.put_whole(f"{bucket}/a.parquet", parquet_bytes(table, 5, compression="none", use_dictionary=False))
    [entry] = storage.list_files(f"{bucket}/a.parquet")
    sizes = []
    fetch = s3fs.core._fetch_range

    def counting(*args: object, **options: object) -> bytes:
        sizes.append(len(data := fetch(*args, **options)))
        return data

    monkeypatch.setattr(s3fs.core, "_fetch_range", counting)
    keys = [key for group in parquet_shard.keys(entry.uri, entry.version) for key in group]
    assert keys == [str(i) for i in range(20)]
    assert sum(sizes) < 100_000
    sizes.clear()
    [found] = parquet_shard.images(entry.uri, entry.version, [7, 9])
    assert found == {7: images[7], 9: images[9]}
    assert 500_000 < sum(sizes) < 700_000


def test_an_outage_in_the_middle_repeats_and_loses_no_row(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_proxy(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        bucket = new_bucket()
        table = pa.table({"key": [f"{n}" for n in range(40)], "image": [bytes([n]) * 100_000 for n in range(40)]})
        storage.put_whole(f"{bucket}/a.parquet", parquet_bytes(table, 10))
        source = open_source(bucket, "parquet")
        [version] = {entry.version for entry in source.entries()}
        rows = [{"key": f"{n}", "source": "", "version": version, "path": "a.parquet", "row": n} for n in range(40)]
        found = []
        with storage.retrying(60):
            for part in _fetch_cells(source, rows):
                if not found:
                    proxy.fault = "refuse"
                    threading.Timer(6, setattr, (proxy, "fault", "none")).start()
                found += part.to_pylist()
    assert [(row["key"], row["image"]) for row in found] == [(f"{n}", bytes([n]) * 100_000) for n in range(40)]
