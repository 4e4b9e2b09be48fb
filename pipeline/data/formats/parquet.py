"""Parquet files of encoded images: the keys without the images, and the images of chosen rows.

Where pages carry checksums they are verified. A file is read by exact ranges: keys cost no bytes of images.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Self

import pyarrow.parquet as pq

from pipeline import masks, storage
from pipeline.data.formats.columns import Column, Columns, choose_columns
from pipeline.data.formats.format import (
    BY_RULE,
    OUTPUT_FILES,
    ColumnNames,
    Encoded,
    Fetched,
    Format,
    Location,
    OnUnpaired,
    Pair,
)
from pipeline.data.formats.key_values import texts
from pipeline.data.formats.shard import by_file, damage_as_shard_error, opened
from pipeline.data.rows import Row, numbered, within
from pipeline.errors import ConfigError, NoInputError, OutputError, ShardError

_KIND = "Parquet file"
_RULE = 5
"""Number of the rule, here and in columns.py, counted up when by it some file has other columns, rows or keys."""

_ROWS_AT_ONCE = 64
_BYTES_AT_ONCE = 64 * 1024 * 1024


@dataclass(frozen=True)
class Parquet(Format):
    """A row an image. A row group is fetched by one task: reading part of it costs as much as all of it."""

    names: ColumnNames = BY_RULE

    name = "parquet"
    suffixes = frozenset({".parquet"})
    files = "Parquet files"
    whole_lists = True
    describes = ".tar"  # as img2dataset writes a table beside each tar

    @property
    def index_id(self) -> str:
        """See Format. Keys may be a part of the column of images."""
        return f"images {self.names.image}, keys {self.names.key}, rule {_RULE}"

    def with_columns(self, names: ColumnNames) -> Self:
        """See Format."""
        return replace(self, names=names)

    def check(self, entry: storage.Entry, *, labelled: bool = False) -> str:
        """See Format."""
        with _file(entry.uri, entry.version) as file:
            return f"{storage.redact(entry.uri)}: {self._columns(file, entry.uri, labelled=labelled)}"

    def index(self, entry: storage.Entry) -> Iterator[list[Row]]:
        """See Format. A list a row group; only keys are read. A row without one is named by its number."""
        with _file(entry.uri, entry.version) as file:
            yield from _index(file, entry, self._columns(file, entry.uri))

    def pairs(self, entry: storage.Entry, on_unpaired: OnUnpaired) -> Iterator[Pair]:  # noqa: ARG002
        """See LabelledFormat. Keys that are paths of images may repeat, so there a pair is called by its number."""
        with _file(entry.uri, entry.version) as file:
            columns = self._columns(file, entry.uri, labelled=True)
            assert columns.mask is not None
            image, mask = (Parquet(ColumnNames(image=column.name)) for column in (columns.image, columns.mask))
            for row in (row for rows in _index(file, entry, columns) for row in rows):
                own = columns.key is not None and not columns.key.field
                name = row["key"] if own else numbered(entry, row["row"])["key"]
                yield Pair(name, Location.of(image, entry, row), Location.of(mask, entry, row))

    def fetch(self, root: str, rows: Sequence[Row]) -> Iterator[Fetched]:
        """See Format. Damage costs the rows of its row group; the others are read."""
        for path, version, group in by_file(rows):
            by_number = {row["row"]: row for row in group}
            for images in self._images(storage.join(root, path), version, by_number):
                yield [(by_number[number], image) for number, image in images.items()]

    def _columns(self, file: pq.ParquetFile, uri: str, *, labelled: bool = False) -> Columns:
        """Choose the columns. Raises NoInputError for a table that a run has written, whatever it is called now."""
        schema = file.schema_arrow
        with suppress(OutputError):
            note = masks.DatasetInfo.from_metadata(schema.metadata)
            what = f"{storage.redact(uri)} has the note of the run {note.run_id}: an output is no input"
            raise NoInputError(what, OUTPUT_FILES)
        return choose_columns(schema, storage.redact(uri), self.names, labelled=labelled)

    def _images(self, uri: str, version: str, numbers: Collection[int]) -> Iterator[dict[int, Encoded]]:
        """Read the rows of these numbers, some at a time, each exactly once: its image, or what was in the way."""
        left = set(numbers)
        missing = ShardError(f"{storage.redact(uri)} no longer has this row; run again to list anew")
        try:
            with _file(uri, version) as file:
                column = self._columns(file, uri).image
                for group in _row_groups(file, column, uri):
                    here = {number for number in left if number in group.rows}
                    left -= here
                    if here:
                        yield from _group_images(file, uri, column, group, here)
        except (ShardError, ConfigError) as error:
            missing = ShardError(str(error))
        if left:
            yield dict.fromkeys(left, missing)


@dataclass(frozen=True, kw_only=True)
class _RowGroup:
    """A row group: the numbers of its rows, and the mean of its images in bytes: one's own is known when it is read."""

    number: int
    rows: range
    mean_bytes: int


def _index(file: pq.ParquetFile, entry: storage.Entry, columns: Columns) -> Iterator[list[Row]]:
    """List the rows of each row group. Raises ShardError where the column of keys is damaged or has another count."""
    for group in _row_groups(file, columns.image, entry.uri):
        names: list[str | None] = [None] * len(group.rows)
        if columns.key:
            batches = file.iter_batches(row_groups=[group.number], columns=[columns.key.path])
            names = [name for batch in batches for name in texts(columns.key.of(batch))]
        if len(names) != len(group.rows):
            raise ShardError(_short(entry.uri, group, len(names)))
        about = {"length": group.mean_bytes}
        named = zip(group.rows, names, strict=True)
        yield [(within(entry, name) if name else numbered(entry, n)) | about | {"row": n} for n, name in named]


def _group_images(
    file: pq.ParquetFile, uri: str, column: Column, group: _RowGroup, chosen: set[int]
) -> Iterator[dict[int, Encoded]]:
    """Read the chosen rows of one row group, as `_images` gives them."""
    left, at = set(chosen), group.rows.start
    at_once = max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // max(group.mean_bytes, 1)))
    try:
        with damage_as_shard_error(uri, _KIND):
            for batch in file.iter_batches(at_once, row_groups=[group.number], columns=[column.path]):
                images = {n: v for n, v in enumerate(column.of(batch).to_pylist(), start=at) if n in left}
                at += batch.num_rows
                left -= images.keys()
                if images:
                    yield {n: v if v is not None else ShardError(_null(uri, n)) for n, v in images.items()}
        missing = ShardError(_short(uri, group, at - group.rows.start))
    except ShardError as error:
        missing = error
    if left:
        yield dict.fromkeys(left, missing)


@contextmanager
def _file(uri: str, version: str) -> Iterator[pq.ParquetFile]:
    with (
        opened(uri, version, _KIND) as stream,
        storage.parquet_file(stream, page_checksum_verification=True) as file,
    ):
        yield file


def _row_groups(file: pq.ParquetFile, column: Column, uri: str) -> Iterator[_RowGroup]:
    """Describe each row group. A count of rows that the image column contradicts raises ShardError."""
    first = 0
    for number, chunk in enumerate(storage.column_chunks(file.metadata, column.path)):
        count: int = file.metadata.row_group(number).num_rows
        mean = chunk.total_uncompressed_size // max(count, 1)
        group = _RowGroup(number=number, rows=range(first, first + count), mean_bytes=mean)
        if chunk.num_values != count:
            raise ShardError(_short(uri, group, chunk.num_values))
        yield group
        first = group.rows.stop


def _short(uri: str, group: _RowGroup, held: int) -> str:
    file = storage.redact(uri)
    return (
        f"{file} is not a readable {_KIND}: row group {group.number} should have {len(group.rows)} rows, "
        f"and holds {held}"
    )


def _null(uri: str, row: int) -> str:
    return f"row {row} of {storage.redact(uri)} holds no image (null)"
