"""What a Parquet file gives, and what reading it costs."""

import threading
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest
import s3fs.core

from pipeline import storage
from pipeline.data.formats.format import Encoded
from pipeline.data.formats.parquet import Parquet
from pipeline.data.source import open_source
from pipeline.data.tables import table_batches
from tests.helpers.reads import read_sizes
from tests.helpers.s3_proxy import s3_proxy
from tests.helpers.servers import new_bucket
from tests.helpers.shards import parquet_bytes


def keys(entry: storage.Entry) -> list[list[str]]:
    """Of each row group."""
    return [[row["key"] for row in rows] for rows in Parquet().index(entry)]


def images(entry: storage.Entry, numbers: Iterable[int]) -> list[dict[int, Encoded]]:
    """By their rows, as they are fetched together."""
    rows = [{"path": entry.key, "version": entry.version, "row": number} for number in numbers]
    return [{row["row"]: data for row, data in part} for part in Parquet().fetch(entry.root, rows)]


def test_a_column_may_have_a_dot_in_its_name(tmp_path: Path) -> None:
    table = pa.table({"image.bytes": [b"x", b"y"], "note": ["n", "m"]})
    storage.put_whole(f"{tmp_path}/a.parquet", parquet_bytes(table, 2))
    [entry] = storage.list_files(f"{tmp_path}/a.parquet")
    assert keys(entry) == [["a.parquet#0", "a.parquet#1"]]
    assert images(entry, [1]) == [{1: b"y"}]


def test_large_images_are_decoded_a_few_at_a_time(tmp_path: Path) -> None:
    pictures = [bytes([n]) * 30_000_000 for n in range(6)]
    table = pa.table({"key": [str(n) for n in range(6)], "image": pictures})
    storage.put_whole(f"{tmp_path}/a.parquet", parquet_bytes(table, 6, compression="none", use_dictionary=False))
    [entry] = storage.list_files(f"{tmp_path}/a.parquet")
    found = images(entry, range(6))
    assert [len(some) for some in found] == [2, 2, 2]
    assert {n: image for some in found for n, image in some.items()} == dict(enumerate(pictures))


def test_a_row_group_is_read_a_buffer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of images, and of the URIs of a list; here pages and buffers are small."""
    monkeypatch.setattr("pipeline.storage.parquet._BUFFER_BYTES", 2**20)
    sizes = read_sizes(monkeypatch)
    pages = {"compression": "none", "use_dictionary": False, "write_batch_size": 8}
    images_table = pa.table({"image": [bytes([n % 256]) * 50_000 for n in range(300)]})
    storage.put_whole(f"{tmp_path}/a.parquet", parquet_bytes(images_table, 300, **pages))
    [entry] = storage.list_files(f"{tmp_path}/a.parquet")
    rows = [{"path": entry.key, "version": entry.version, "row": number} for number in range(300)]
    assert len(next(Parquet().fetch(entry.root, rows))) == 64
    assert 64 * 50_000 < sum(sizes) < 64 * 50_000 + 3 * 2**20
    sizes.clear()
    uris_table = pa.table({"uri": [f"{n:09d}" * 11 for n in range(100_000)]})
    storage.put_whole(f"{tmp_path}/l.parquet", parquet_bytes(uris_table, 100_000, **pages))
    with storage.opened(f"{tmp_path}/l.parquet") as stream:
        assert next(table_batches("l.parquet", stream, ["uri"]))[1].num_rows == 8192
        assert 8192 * 99 < sum(sizes) < 8192 * 99 + 3 * 2**20


def test_keys_cost_no_images_and_some_images_not_all(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that come over the wire, as counted beneath s3fs's files."""
    pictures = [bytes([i]) * 100_000 for i in range(20)]
    table = pa.table({"key": [str(i) for i in range(20)], "image": pictures})
    storage.put_whole(f"{bucket}/a.parquet", parquet_bytes(table, 5, compression="none", use_dictionary=False))
    [entry] = storage.list_files(f"{bucket}/a.parquet")
    sizes = []
    fetch = s3fs.core._fetch_range

    def counting(*args: object, **options: object) -> bytes:
        sizes.append(len(data := fetch(*args, **options)))
        return data

    monkeypatch.setattr(s3fs.core, "_fetch_range", counting)
    assert keys(entry) == [[f"a.parquet/{i}" for i in range(n, n + 5)] for n in range(0, 20, 5)]
    assert sum(sizes) < 100_000
    sizes.clear()
    assert images(entry, [7, 9]) == [{7: pictures[7], 9: pictures[9]}]
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
            for part in source.formats["parquet"].fetch(source.root, rows):
                if not found:
                    proxy.fault = "refuse"
                    threading.Timer(6, setattr, (proxy, "fault", "none")).start()
                found += [(row["key"], image) for row, image in part]
    assert found == [(f"{n}", bytes([n]) * 100_000) for n in range(40)]
