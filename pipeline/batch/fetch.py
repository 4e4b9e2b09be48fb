"""Ray Data's source of encoded images: one read task fetches one chunk of the manifest."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
from fsspec.utils import merge_offset_ranges
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from pipeline import storage
from pipeline.batch.manifest import Chunk, read_chunk
from pipeline.batch.tracker import Tracker
from pipeline.data import parquet_shard, rows
from pipeline.data.grouping import fetched_together
from pipeline.data.shard import check_unchanged
from pipeline.data.source import Source
from pipeline.errors import ImageError, PipelineError, ShardError, StorageError
from pipeline.runtime.errors import carried

_MAX_GAP = 256 * 1024
_MAX_SPAN = 32 * 1024 * 1024

Row = dict[str, Any]


class ManifestDatasource(Datasource):
    """The images a manifest names, as tables of schema FETCHED; what travels to the cluster is chunk numbers."""

    def __init__(self, source: Source, manifest_uri: str, chunks: Sequence[Chunk], tracker: Tracker) -> None:
        """Read `chunks` of the manifest at `manifest_uri`, whose images lie in `source`."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._source, self._manifest_uri, self._chunks, self._tracker = source, manifest_uri, chunks, tracker

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown before anything is fetched."""
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """One task a chunk, whatever parallelism is asked for: a chunk is what is best fetched together."""
        return [
            ReadTask(
                partial(_fetch_with_retries, self._source, self._manifest_uri, chunk, self._tracker),
                BlockMetadata(num_rows=chunk.rows, size_bytes=None, input_files=None, exec_stats=None),
            )
            for chunk in self._chunks
        ]


def _fetch_with_retries(source: Source, manifest_uri: str, chunk: Chunk, tracker: Tracker) -> Iterator[pa.Table]:
    with carried(), storage.retrying(source.storage_timeout):
        tables = fetch_chunk(source, manifest_uri, chunk)
        began = time.monotonic()
        for table in tables:
            tracker.end("fetch", table.column("key").to_pylist(), time.monotonic() - began)
            yield table
            began = time.monotonic()


def fetch_chunk(source: Source, manifest_uri: str, chunk: Chunk) -> Iterator[pa.Table]:
    """Tables of schema FETCHED with the bytes of one chunk's images, a few dozen rows at a time.

    An image that is gone, denied or in a damaged shard becomes a failed row; a storage that does not answer raises
    StorageError, and so does one that refuses a shard.
    """
    listed = [_within_limit(row, source.max_bytes) for row in read_chunk(manifest_uri, chunk).to_pylist()]
    fetch = {"images": _fetch_objects, "webdataset": _fetch_members, "parquet": _fetch_cells}[source.format]
    failed = [row for row in listed if row["error"] is not None]
    if failed:
        yield rows.table(failed, rows.FETCHED)
    wanted = [row for row in listed if row["error"] is None]
    for some in [wanted] if source.format == "parquet" else fetched_together(wanted):
        yield from fetch(source, some)


def _within_limit(row: Row, max_bytes: int) -> Row:
    """The row as it was listed, or failed: what would fill a worker's memory is not fetched at all."""
    if row["error"] is not None or (row["length"] or 0) <= max_bytes:
        return row
    said = f"the file has {row['length']} bytes; no image of at most max_pixels needs more than {max_bytes}"
    return row | rows.failure("fetch", ImageError(said))


def _fetch_objects(source: Source, wanted: list[Row]) -> Iterator[pa.Table]:
    nothing = [None] * len(wanted)
    found = storage.read_ranges(source.root, [row["path"] for row in wanted], nothing, nothing)
    yield rows.table([_fetched(row, data) for row, data in zip(wanted, found, strict=True)], rows.FETCHED)


def _fetch_members(source: Source, wanted: list[Row]) -> Iterator[pa.Table]:
    for (path, version), group in groupby(wanted, key=itemgetter("path", "version")):
        members = list(group)
        try:
            check_unchanged(storage.join(source.root, path), version)
            found: Sequence[bytes | PipelineError] = _members(source.root, path, members)
        except ShardError as error:
            found = [error] * len(members)
        yield rows.table([_fetched(row, data) for row, data in zip(members, found, strict=True)], rows.FETCHED)


def _members(root: str, path: str, wanted: list[Row]) -> list[bytes | StorageError]:
    """The bytes of members of one tar; neighbours are fetched with one request."""
    starts = [row["offset"] for row in wanted]
    ends = [row["offset"] + row["length"] for row in wanted]
    merged = merge_offset_ranges([path] * len(wanted), starts, ends, max_gap=_MAX_GAP, max_block=_MAX_SPAN)
    fetched = storage.read_ranges(root, *merged)

    def cut(start: int, end: int) -> bytes | StorageError:
        for first, last, data in zip(*merged[1:], fetched, strict=True):
            if first <= start and end <= last:
                return data if isinstance(data, StorageError) else data[start - first : end - first]
        raise AssertionError(f"no fetched span covers {path} {start}-{end}")

    return [cut(start, end) for start, end in zip(starts, ends, strict=True)]


def _fetch_cells(source: Source, wanted: list[Row]) -> Iterator[pa.Table]:
    for (path, version), group in groupby(wanted, key=itemgetter("path", "version")):
        by_row = {row["row"]: row for row in group}
        for found in parquet_shard.images(storage.join(source.root, path), version, by_row):
            yield rows.table([_fetched(by_row[n], image) for n, image in found.items()], rows.FETCHED)


def _fetched(row: Row, data: bytes | PipelineError) -> Row:
    known = {name: row[name] for name in ("key", "source", "version")}
    if isinstance(data, PipelineError):
        return known | rows.failure("fetch", data)
    return known | {"digest": hashlib.sha256(data).hexdigest(), "image": data}
