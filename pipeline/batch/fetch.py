"""Ray Data's source of encoded images: one read task fetches one chunk of the manifest."""

import hashlib
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from pipeline import storage
from pipeline.batch.manifest import Chunk, read_chunk
from pipeline.batch.parcels import as_parcel, ends
from pipeline.batch.tracker import Tracker
from pipeline.data import rows
from pipeline.data.formats.format import Encoded
from pipeline.data.rows import Row
from pipeline.data.source import Source
from pipeline.errors import ImageError, PipelineError
from pipeline.runtime.errors import carried

_TABLE_BYTES = 128 * 1024**2
"""Most of the images that are handed on together. The plan's parcels have half of it in the mean."""


class ManifestDatasource(Datasource):
    """The images a manifest names, as parcels of schema FETCHED; what travels to the cluster is chunk numbers."""

    def __init__(
        self, source: Source, manifest_uri: str, chunks: Sequence[Chunk], tracker: Tracker, parcel: int
    ) -> None:
        """Read `chunks` of the manifest at `manifest_uri`, whose images lie in `source`, in parcels of so many."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._source, self._manifest_uri, self._chunks, self._tracker = source, manifest_uri, chunks, tracker
        self._parcel = parcel
        self._retry_seconds = storage.retry_seconds()

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: it is unknown before anything is fetched."""
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """Make one task a chunk, whatever parallelism is asked for: a chunk is what is best fetched together."""
        fetch = partial(_fetch_with_retries, self._source, self._manifest_uri, self._tracker, self._parcel)
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(fetch, self._retry_seconds, chunk), unknown) for chunk in self._chunks]


def _fetch_with_retries(
    source: Source, manifest_uri: str, tracker: Tracker, parcel: int, retry_seconds: float, chunk: Chunk
) -> Iterator[pa.Table]:
    with carried(), storage.retrying(retry_seconds):
        keys, seconds, began = list[str](), 0.0, time.monotonic()
        for table in fetch_chunk(source, manifest_uri, chunk, parcel):
            keys += table.column("key").to_pylist()
            seconds += time.monotonic() - began
            yield as_parcel(table)
            began = time.monotonic()  # what it has waited until it was asked for more is not its own
        tracker.end("fetch", keys, seconds)


def fetch_chunk(source: Source, manifest_uri: str, chunk: Chunk, size: int) -> Iterator[pa.Table]:
    """Fetch one chunk's images, in tables of schema FETCHED of about `size` rows, in the order of the manifest.

    Which images are in a table follows from what was listed alone. An image that is gone, refused or in a damaged shard
    becomes a failed row; a storage that does not answer raises StorageError, and so does one that refuses a shard,
    unless it says that this one alone is meant.
    """
    listed = [_within_limit(row, source.max_bytes) for row in read_chunk(manifest_uri, chunk).to_pylist()]
    places = defaultdict[str, deque[int]](deque)
    for place, row in enumerate(listed):
        places[row["key"]].append(place)
    cuts = deque(_cuts(listed, size))
    found: dict[int, Row] = {}
    start = 0
    for row in _found(source, listed):
        found[places[row["key"]].popleft()] = row
        while cuts and len(found) >= cuts[0] - start and found.keys() >= set(range(start, cuts[0])):
            end = cuts.popleft()
            yield rows.table([found.pop(place) for place in range(start, end)], rows.FETCHED)
            start = end


def _cuts(listed: Sequence[Row], size: int) -> Iterator[int]:
    """Give where each table ends: where a parcel of `size` does, and before what would exceed _TABLE_BYTES."""
    even = set(ends(len(listed), size))
    start, total = 0, 0
    for place, row in enumerate(listed):
        length = row["length"] or 0  # where it is not known, a parcel is of few images
        if place in even or (place > start and total + length > _TABLE_BYTES):
            yield place
            start, total = place, 0
        total += length
    if listed:
        yield len(listed)


def _found(source: Source, listed: Sequence[Row]) -> Iterator[Row]:
    """Give a row of FETCHED for each listed one, in any order."""
    yield from (row for row in listed if row["error"] is not None)
    good = (row for row in listed if row["error"] is None)
    for name, some in groupby(good, key=itemgetter("format")):
        for part in source.formats[name].fetch(source.root, list(some)):
            yield from (_fetched(row, data, source.max_bytes) for row, data in part)


def _within_limit(row: Row, max_bytes: int) -> Row:
    """Give the row as it was listed, or failed: what would fill a worker's memory is not fetched at all.

    A table's row has but the mean of those that are read with it.
    """
    if row["error"] is not None or row["row"] is not None or (row["length"] or 0) <= max_bytes:
        return row
    return row | rows.failure("fetch", _too_large(row["length"], max_bytes))


def _too_large(length: int, max_bytes: int) -> ImageError:
    return ImageError(f"the file has {length} bytes; no image of at most max_pixels needs more than {max_bytes}")


def _fetched(row: Row, data: Encoded, max_bytes: int) -> Row:
    identity = {name: row[name] for name in ("key", "source", "version", "carried")}
    if isinstance(data, bytes) and len(data) > max_bytes:
        data = _too_large(len(data), max_bytes)
    if isinstance(data, PipelineError):
        return identity | rows.failure("fetch", data)
    return identity | {"digest": hashlib.sha256(data).hexdigest(), "image": data}
