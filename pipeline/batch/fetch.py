"""Ray Data's source of encoded images: one read task fetches one chunk of the manifest."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.utils import merge_offset_ranges
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from pipeline import storage
from pipeline.batch import rows
from pipeline.batch.manifest import Chunk, read_chunk
from pipeline.batch.source import Source, parquet_columns
from pipeline.errors import StorageError

_ROWS_AT_ONCE = 64
_MAX_GAP = 256 * 1024
_MAX_SPAN = 32 * 1024 * 1024

Row = dict[str, Any]


class ManifestDatasource(Datasource):
    """The images a manifest names, as tables of schema FETCHED; what travels to the cluster is chunk numbers."""

    def __init__(self, source: Source, manifest_uri: str, chunks: Sequence[Chunk]) -> None:
        """Read `chunks` of the manifest at `manifest_uri`, whose images lie in `source`."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._source, self._manifest_uri, self._chunks = source, manifest_uri, chunks

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown before anything is fetched."""
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """One task a chunk, whatever parallelism is asked for: a chunk is what is best fetched together."""
        return [
            ReadTask(
                partial(fetch_chunk, self._source, self._manifest_uri, chunk),
                BlockMetadata(num_rows=chunk.rows, size_bytes=None, input_files=None, exec_stats=None),
            )
            for chunk in self._chunks
        ]


def fetch_chunk(source: Source, manifest_uri: str, chunk: Chunk) -> Iterator[pa.Table]:
    """Tables of schema FETCHED with the bytes of one chunk's images, a few dozen rows at a time.

    An image that is gone or denied becomes a failed row; a storage that does not answer raises StorageError.
    """
    listed = iter(read_chunk(manifest_uri, chunk).to_pylist())
    fetch = {"images": _fetch_objects, "webdataset": _fetch_members, "parquet": _fetch_cells}[source.format]
    while some := list(islice(listed, _ROWS_AT_ONCE if source.format != "parquet" else chunk.rows)):
        wanted = [row for row in some if row["error"] is None]
        failed = [row for row in some if row["error"] is not None]
        if failed:
            yield rows.table(failed, rows.FETCHED)
        yield from fetch(source, wanted)


def _fetch_objects(source: Source, wanted: list[Row]) -> Iterator[pa.Table]:
    nothing = [None] * len(wanted)
    found = storage.read_ranges(source.root, [row["path"] for row in wanted], nothing, nothing)
    yield rows.table([_fetched(row, data) for row, data in zip(wanted, found, strict=True)], rows.FETCHED)


def _fetch_members(source: Source, wanted: list[Row]) -> Iterator[pa.Table]:
    """Neighbouring members of a tar are fetched with one request."""
    starts = [row["offset"] for row in wanted]
    ends = [row["offset"] + row["length"] for row in wanted]
    paths = [row["path"] for row in wanted]
    spans = list(zip(*merge_offset_ranges(paths, starts, ends, max_gap=_MAX_GAP, max_block=_MAX_SPAN), strict=True))
    found = storage.read_ranges(source.root, *(list(column) for column in zip(*spans, strict=True))) if spans else []

    def cut(row: Row) -> bytes | StorageError:
        start, end = row["offset"], row["offset"] + row["length"]
        for (path, first, last), data in zip(spans, found, strict=True):
            if path == row["path"] and first <= start and end <= last:
                return data if isinstance(data, StorageError) else data[start - first : end - first]
        raise AssertionError(f"no fetched span covers {row['path']} {start}-{end}")

    yield rows.table([_fetched(row, cut(row)) for row in wanted], rows.FETCHED)


def _fetch_cells(source: Source, wanted: list[Row]) -> Iterator[pa.Table]:
    for path, group in groupby(wanted, key=lambda row: row["path"]):
        uri = storage.join(source.root, path)
        filesystem, inside = storage.arrow_filesystem(uri)
        by_row = {row["row"]: row for row in group}
        with pq.ParquetFile(inside, filesystem=filesystem, buffer_size=1 << 20) as file:
            image = parquet_columns(file.schema_arrow, uri).image
            for first, values in _cells(file, image, by_row):
                numbered = enumerate(values, start=first)
                found = [_fetched(by_row[n], _not_null(value, uri, n)) for n, value in numbered if n in by_row]
                if found:
                    yield rows.table(found, rows.FETCHED)


def _cells(file: pq.ParquetFile, column: str, by_row: dict[int, Row]) -> Iterator[tuple[int, list[bytes | None]]]:
    """(number of the first row, values) of each row batch in the row groups that hold a wanted row."""
    first = 0
    name, _, field = column.partition(".")
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if any(first <= n < first + count for n in by_row):
            at = first
            for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=[column]):
                values = pc.struct_field(batch.column(name), field) if field else batch.column(name)
                yield at, values.to_pylist()
                at += batch.num_rows
        first += count


def _not_null(value: bytes | None, uri: str, row: int) -> bytes | StorageError:
    return value if value is not None else StorageError(f"row {row} of {storage.redact(uri)} holds no image (null)")


def _fetched(row: Row, data: bytes | StorageError) -> Row:
    known = {name: row[name] for name in ("key", "source", "version")}
    if isinstance(data, StorageError):
        return known | rows.failure("fetch", data)
    return known | {"digest": hashlib.sha256(data).hexdigest(), "image": data}
