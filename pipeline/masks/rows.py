"""The rows of an output without their masks, a batch of columns at a time; and the masks of chosen rows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import storage
from pipeline.errors import StorageError
from pipeline.masks.reading import CommittedFile, read_columns

_ROWS_AT_ONCE = 1024
_MASKS_AT_ONCE = 64
_COLUMNS = ("key", "source", "digest", "height", "width", "confidence", "classes")
_FAILED_COLUMNS = ("key", "source", "stage", "error", "message")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mask is: the URI of a file of masks/, and the number of a row in it."""

    uri: str
    row: int


@dataclass(frozen=True, kw_only=True)
class MaskRows:
    """Describe the masks of N images that lie in one file, of C classes.

    Attributes:
        uri: of the file.
        numbers: (N,) int64, of the rows in the file.
        keys: of the images.
        sources: URIs of what the images came from, redacted; empty where the file has none.
        digests: hex sha256 of the images' bytes; empty where the file has none.
        sizes: (N, 2) int64, height and width.
        confidence: (N,) float64; NaN where the file has none.
        pixels: (N, C) int64, pixels of each class.
        class_confidence: (N, C) float64; NaN where a class does not occur.
    """

    uri: str
    numbers: NDArray[np.int64]
    keys: list[str]
    sources: list[str]
    digests: list[str]
    sizes: NDArray[np.int64]
    confidence: NDArray[np.float64]
    pixels: NDArray[np.int64]
    class_confidence: NDArray[np.float64]

    def place(self, index: int) -> Place:
        """Say where the mask of the image at `index` is."""
        return Place(self.uri, int(self.numbers[index]))

    def where(self, chosen: NDArray[np.bool_]) -> "MaskRows":
        """Give the rows that are `chosen` (N,)."""
        kept = chosen.nonzero()[0]
        return MaskRows(
            uri=self.uri,
            numbers=self.numbers[kept],
            keys=[self.keys[index] for index in kept],
            sources=[self.sources[index] for index in kept],
            digests=[self.digests[index] for index in kept],
            sizes=self.sizes[kept],
            confidence=self.confidence[kept],
            pixels=self.pixels[kept],
            class_confidence=self.class_confidence[kept],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRow:
    """Describe an image without a mask."""

    key: str
    source: str
    stage: str
    error: str
    message: str


def newest_rows(files: Sequence[CommittedFile]) -> Iterator[MaskRows | FailedRow]:
    """Stream the newest row of each key: masks by the batch, failures singly.

    Memory: a batch without masks, and the keys seen so far where the files are of more than one run.

    Args:
        files: of one generation, newest first, as `generation_files` gives them.

    Raises:
        StorageError: a file cannot be read.
    """
    seen: set[str] | None = set() if len({file.info.run_id for file in files}) > 1 else None
    for file in files:
        if file.failed:
            for row in read_columns(file.uri, list(_FAILED_COLUMNS), lacking=_FAILED_COLUMNS[1:]):
                key, *rest = (value or "" for value in row)
                failed = FailedRow(
                    key=file.info.image_key(key, rest[0]), **dict(zip(_FAILED_COLUMNS[1:], rest, strict=True))
                )
                if _is_new(failed.key, seen):
                    yield failed
            continue
        for rows in _mask_rows(file):
            new = np.array([_is_new(key, seen) for key in rows.keys], bool)
            yield rows if new.all() else rows.where(new)


def _is_new(key: str, seen: set[str] | None) -> bool:
    """Note a key; returns whether it was not seen before."""
    if seen is None:
        return True
    before = len(seen)
    seen.add(key)
    return len(seen) > before


def _mask_rows(file: CommittedFile) -> Iterator[MaskRows]:
    first = 0
    try:
        with storage.opened(file.uri) as stream, pq.ParquetFile(stream) as table:
            columns = [name for name in _COLUMNS if name in table.schema_arrow.names]
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=columns):
                yield _described(file, batch, first)
                first += batch.num_rows
    except (OSError, KeyError, pa.ArrowException) as error:
        raise StorageError(f"cannot read the masks in {storage.redact(file.uri)}: {error}") from error


def _described(file: CommittedFile, batch: pa.RecordBatch, first: int) -> MaskRows:
    """Turn a batch of a file, whose first row has the number `first`, into MaskRows."""
    count = batch.num_rows
    texts = {name: _texts(batch, name) for name in ("key", "source", "digest")}
    pixels, class_confidence = _class_columns(file, batch)
    return MaskRows(
        uri=file.uri,
        numbers=np.arange(first, first + count),
        keys=[file.info.image_key(*names) for names in zip(texts["key"], texts["source"], strict=True)],
        sources=texts["source"],
        digests=texts["digest"],
        sizes=np.stack([_numbers(batch.column(name), np.int64) for name in ("height", "width")], axis=1),
        confidence=_confidence(batch, count),
        pixels=pixels,
        class_confidence=class_confidence,
    )


def _class_columns(file: CommittedFile, batch: pa.RecordBatch) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Spread the column `classes` over arrays (N, C): pixels, and confidence."""
    shape = batch.num_rows, len(file.info.classes)
    pixels, confidence = np.zeros(shape, np.int64), np.full(shape, np.nan)
    lists = batch.column("classes")
    rows, found = _numbers(pc.list_parent_indices(lists), np.int64), pc.list_flatten(lists)
    ids = _numbers(found.field("id"), np.int64)
    if ids.size and (ids.min() < 0 or ids.max() >= shape[1]):
        raise StorageError(
            f"cannot read the masks in {storage.redact(file.uri)}: a row names class {ids.max()} of {shape[1]}; "
            "`deeplab-buckets verify` says more"
        )
    pixels[rows, ids] = _numbers(found.field("pixels"), np.int64)
    if found.type.get_field_index("confidence") >= 0:
        confidence[rows, ids] = _numbers(found.field("confidence"), np.float64)
    return pixels, confidence


def _confidence(batch: pa.RecordBatch, count: int) -> NDArray[np.float64]:
    if "confidence" not in batch.schema.names:
        return np.full(count, np.nan)
    return _numbers(batch.column("confidence"), np.float64)


def _numbers(values: Any, kind: type[np.int64] | type[np.float64]) -> NDArray[Any]:
    missing = np.nan if kind is np.float64 else 0
    return np.array([missing if value is None else value for value in values.to_pylist()], kind)


def _texts(batch: pa.RecordBatch, name: str) -> list[str]:
    if name not in batch.schema.names:
        return [""] * batch.num_rows
    return [value or "" for value in batch.column(name).to_pylist()]


def read_pngs(places: Iterable[Place]) -> Iterator[tuple[Place, bytes]]:
    """Read the encoded masks at `places`; neighbours in one file are read together, in the order of their rows.

    Raises:
        StorageError: a file cannot be read, or has no such row.
    """
    for uri, group in groupby(places, key=lambda place: place.uri):
        wanted = sorted({place.row for place in group})
        try:
            with storage.opened(uri) as stream, storage.parquet_file(stream) as table:
                yield from ((Place(uri, row), png) for row, png in _pngs(table, wanted))
        except (OSError, KeyError, IndexError, pa.ArrowException) as error:
            raise StorageError(f"cannot read the masks in {storage.redact(uri)}: {error}") from error


def _pngs(table: pq.ParquetFile, wanted: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Read the masks of `wanted` rows, in ascending order; row groups without any are stepped over."""
    first, left = 0, list(wanted)
    for group in range(table.num_row_groups):
        end = first + table.metadata.row_group(group).num_rows
        if left and left[0] < end:
            at = first
            for batch in table.iter_batches(_MASKS_AT_ONCE, row_groups=[group], columns=["mask.bytes"]):
                masks = batch.column("mask").field("bytes")
                while left and left[0] < at + batch.num_rows:
                    row = left.pop(0)
                    yield row, masks[row - at].as_py()
                at += batch.num_rows
        first = end
    if left:
        raise IndexError(f"it has {first} rows, and row {left[0]} was listed; another program has replaced it")
