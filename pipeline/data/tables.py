"""Tables of text and numbers, as people and queries write them: Parquet, CSV with a header, or a value a line."""

import codecs
import csv
import io
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePosixPath
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import ConfigError, ShardError
from pipeline.images import EXTENSIONS

LINE = "line"
"""The one column of a text file."""

Stream = io.RawIOBase | io.BytesIO

_ROWS_AT_ONCE = 8192
_BUFFER_BYTES = 4 * 1024 * 1024
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


Numbered = Iterator[tuple[int, pa.RecordBatch]]
"""Batches of a table, each with the number of its first row."""


class _Kind(Protocol):
    def schema(self, stream: Stream) -> pa.Schema: ...

    def batches(self, stream: Stream, columns: Sequence[str], rows: Collection[int] | None) -> Numbered: ...


class _Parquet:
    def schema(self, stream: Stream) -> pa.Schema:
        return pq.read_schema(stream)

    def batches(self, stream: Stream, columns: Sequence[str], rows: Collection[int] | None) -> Numbered:
        with storage.parquet_file(stream) as file:
            for first, groups in [(0, None)] if rows is None else _groups(file.metadata, sorted(rows)):
                for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=list(columns)):
                    yield first, batch
                    first += batch.num_rows


def _groups(metadata: pq.FileMetaData, rows: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Give the row groups that hold some of `rows`, in ascending order: the number of the first row, and the group."""
    first = 0
    for group in range(metadata.num_row_groups):
        end = first + metadata.row_group(group).num_rows
        if bisect_left(rows, first) < bisect_left(rows, end):
            yield first, [group]
        first = end


def _numbered(batches: Iterator[pa.RecordBatch], rows: Collection[int] | None) -> Numbered:
    """Number the rows of a table that is read from its start, up to the last of `rows`."""
    first, last = 0, None if rows is None else max(rows, default=0)
    for batch in batches:
        yield first, batch
        first += batch.num_rows
        if last is not None and first > last:
            break


class _Csv:
    """Every column is text: a key of digits keeps its zeros. Empty lines are left out, empty values are null.

    A row of more values than the header has is null throughout: which of them belongs where cannot be told.
    """

    def schema(self, stream: Stream) -> pa.Schema:
        with _text(stream) as text:
            return pa.schema([(name, pa.string()) for name in next(_lines_of(text), [])])

    def batches(self, stream: Stream, columns: Sequence[str], rows: Collection[int] | None) -> Numbered:
        return _numbered(self._read(stream, columns), rows)

    def _read(self, stream: Stream, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with _text(stream) as text:
            rows = _lines_of(text)
            header = next(rows, [])
            places = {name: header.index(name) for name in columns}
            while some := list(islice(rows, _ROWS_AT_ONCE)):
                values = {
                    name: [row[n] or None if n < len(row) <= len(header) else None for row in some]
                    for name, n in places.items()
                }
                yield pa.record_batch({name: pa.array(column, pa.string()) for name, column in values.items()})


def _lines_of(text: Iterable[str]) -> Iterator[list[str]]:
    """Give the values of each line that has some."""
    return (row for row in csv.reader(text) if row)


class _Lines:
    """A value a line, without the spaces around it. Empty lines are null."""

    def schema(self, stream: Stream) -> pa.Schema:  # noqa: ARG002
        return pa.schema([(LINE, pa.string())])

    def batches(self, stream: Stream, columns: Sequence[str], rows: Collection[int] | None) -> Numbered:  # noqa: ARG002
        return _numbered(self._read(stream), rows)

    def _read(self, stream: Stream) -> Iterator[pa.RecordBatch]:
        with _text(stream) as text:
            while some := list(islice(text, _ROWS_AT_ONCE)):
                yield pa.record_batch({LINE: pa.array([line.strip() or None for line in some], pa.string())})


_KINDS: dict[str, _Kind] = {".parquet": _Parquet(), ".csv": _Csv(), ".txt": _Lines()}

SUFFIXES = frozenset(_KINDS)
"""Of the files that are read, lower-case, with the dot."""


def is_lines(name: str) -> bool:
    """Tell whether a file has a value a line and no columns."""
    return _kind(name) is _KINDS[".txt"]


def is_csv(name: str) -> bool:
    """Tell whether a file has its columns' names in its first line."""
    return _kind(name) is _KINDS[".csv"]


def table_schema(name: str, stream: Stream) -> pa.Schema:
    """Give the columns of the table in `stream`, of a file called `name`.

    Raises:
        ConfigError: as `table_batches` does; or a CSV has no header, and its first row would be taken for one.
        ShardError, ArrowException, OSError, UnicodeError: as `table_batches` does.
    """
    schema = _kind(name).schema(stream)
    row = next((value for value in schema.names if _names_an_image(value)), None) if is_csv(name) else None
    if row is not None:
        raise ConfigError(
            f"{name} begins with {storage.redact(row)!r}, and a CSV with the names of its columns: write them in a "
            "line above it; or call the file .txt, if each line is one value"
        )
    return schema


def _names_an_image(value: str) -> bool:
    return storage.is_absolute(value) or PurePosixPath(value).suffix.lower() in EXTENSIONS


def table_batches(name: str, stream: Stream, columns: Sequence[str], rows: Collection[int] | None = None) -> Numbered:
    """Read these columns, some thousand rows at a time.

    Args:
        name: of the file.
        stream: of its bytes.
        columns: by their names.
        rows: by their numbers, where not all are sought: of Parquet only the row groups that hold some are read, of
            others what comes before the last.

    Raises:
        ConfigError: no table is called like `name`.
        ShardError, ArrowException, OSError, UnicodeError: the bytes are none.
    """
    return _kind(name).batches(stream, columns, rows)


def _kind(name: str) -> _Kind:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in _KINDS:
        raise ConfigError(f"{name} is no table by its name; give a file {', '.join(sorted(SUFFIXES))}")
    return _KINDS[suffix]


class _Buffered(io.BufferedReader):
    """Fills its buffer for text as well, which asks for 8 KiB: by itself it would read no more, from a bucket too."""

    def read1(self, size: int = -1, /) -> bytes:
        return self.read(size)


@contextmanager
def _text(stream: Stream) -> Iterator[io.TextIOWrapper]:
    """Read `stream` from its start as UTF-8, or as UTF-16 where it begins with its mark; it stays open.

    Raises:
        ShardError: quotes are not closed, or a value is too long.
    """
    stream.seek(0)
    begins = stream.read(2)
    stream.seek(0)
    buffered, encoding = _Buffered(stream, _BUFFER_BYTES), "utf-16" if begins in _UTF16 else "utf-8-sig"
    text = io.TextIOWrapper(buffered, encoding, "backslashreplace", newline="")  # bad bytes cost their value alone
    try:
        yield text
    except csv.Error as error:
        raise ShardError(f"it is no readable CSV: {error}") from error
    finally:
        text.detach().detach()
