"""Lists of images that lie anywhere: Parquet or CSV with a column of URIs, or text with a URI a line."""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

import pyarrow as pa

from pipeline import storage
from pipeline.data import tables
from pipeline.data.formats.format import BY_RULE, ColumnNames, Encoded, Fetched, Format
from pipeline.data.formats.key_values import texts
from pipeline.data.formats.list_columns import ListColumns, choose_list_columns
from pipeline.data.formats.shard import opened
from pipeline.data.rows import Row, failure, numbered, printable
from pipeline.errors import ConfigError, ImageError, MissingError, ShardError
from pipeline.images import DEFAULT_MAX_PIXELS, max_encoded_bytes

_KIND = "list"
_RULE = 3
"""Number of the rule for columns, in list_columns.py, and keys; counted up when some list gets others by it."""

_AT_ONCE = 16
_SMALL_BYTES = 4 * 1024 * 1024  # of each of _AT_ONCE; larger images are read one at a time


@dataclass(frozen=True)
class UriList(Format):
    """A row an image, whose key is its URI or what a column of keys says, wherever the list lies.

    Nothing is asked of an image before it is fetched, so it has no version: one that has its row counts as done. No
    URI that holds a secret goes into an index or a manifest: the list itself is read again for it.
    """

    names: ColumnNames = BY_RULE
    max_bytes: int = max_encoded_bytes(DEFAULT_MAX_PIXELS)

    name = "list"
    suffixes = tables.SUFFIXES
    files = "lists of URIs"
    is_list = True

    @property
    def index_id(self) -> str:
        """See Format."""
        return f"list, {self.names}, rule {_RULE}"

    def with_columns(self, names: ColumnNames) -> Self:
        """See Format."""
        return replace(self, names=names)

    def limited(self, max_bytes: int) -> Self:
        """See Format."""
        return replace(self, max_bytes=max_bytes)

    def carried(self, entry: storage.Entry) -> pa.Schema:
        """See Format."""
        return self._columns(entry).carried

    def check(self, entry: storage.Entry, *, labelled: bool = False) -> str:  # noqa: ARG002
        """See Format."""
        return f"{storage.redact(entry.uri)}: {self._columns(entry)}"

    def index(self, entry: storage.Entry) -> Iterator[list[Row]]:
        """See Format. A row without a URI, or with one that cannot be, is a failed row named by its number."""
        columns = self._columns(entry)
        for first, batch in self._batches(entry, columns.names):
            uris = texts(batch.column(columns.uri))
            keys = texts(batch.column(columns.key)) if columns.key else [None] * len(uris)
            carried = _as_json(batch, columns.carried)
            rows = zip(range(first, first + len(uris)), uris, keys, carried, strict=True)
            yield [
                _listed(entry, n, uri, key) | {"carried": more}
                for n, uri, key, more in rows
                if uri or not tables.is_lines(entry.key)
            ]

    def fetch(self, root: str, rows: Sequence[Row]) -> Iterator[Fetched]:
        """See Format. A few are asked for at once, of all storages together."""
        found = self._uris(root, rows)
        for start in range(0, len(rows), _AT_ONCE):
            some, uris = rows[start : start + _AT_ONCE], found[start : start + _AT_ONCE]
            small = _read(uris, _SMALL_BYTES)
            large = [n for n, data in enumerate(small) if isinstance(data, bytes) and len(data) > _SMALL_BYTES]
            yield [(some[n], self._checked(data)) for n, data in enumerate(small) if n not in large]
            for n in large:
                [data] = _read([uris[n]], self.max_bytes)
                yield [(some[n], self._checked(data))]

    def _checked(self, data: Encoded) -> Encoded:
        if not isinstance(data, bytes) or len(data) <= self.max_bytes:
            return data
        return ImageError(f"the file has more than {self.max_bytes} bytes; no image of at most max_pixels needs more")

    def _columns(self, entry: storage.Entry) -> ListColumns:
        with opened(entry.uri, entry.version, _KIND) as stream:
            schema = tables.table_schema(entry.key, stream)
        return choose_list_columns(schema, storage.redact(entry.uri), self.names)

    def _batches(
        self, entry: storage.Entry, columns: Sequence[str], rows: Collection[int] | None = None
    ) -> tables.Numbered:
        """Read some columns, and of these some rows, as `table_batches` does."""
        with opened(entry.uri, entry.version, _KIND) as stream:
            yield from tables.table_batches(entry.key, stream, columns, rows)

    def _uris(self, root: str, rows: Sequence[Row]) -> list[str | ShardError]:
        """Give the URI of each row; the list is opened for those that hold a secret."""
        secret = [row for row in rows if not storage.is_absolute(row["path"])]
        changed = ShardError("the list no longer has this row; run again to list anew")
        try:
            found = self._found(storage.join(root, secret[0]["path"]), secret) if secret else {}
        except ShardError as error:
            found, changed = {}, error
        except (ConfigError, MissingError):  # it has other columns now, or is gone
            found = {}
        return [row["path"] if storage.is_absolute(row["path"]) else found.get(row["row"], changed) for row in rows]

    def _found(self, uri: str, rows: Sequence[Row]) -> dict[int, str]:
        """Read the URIs in some rows of the list at `uri`, by their numbers, where they are still those listed."""
        sought = {row["row"]: row["source"] for row in rows}
        found: dict[int, str] = {}
        for entry in storage.list_folder(uri):
            column = self._columns(entry).uri
            for first, batch in self._batches(entry, [column], sought):
                here = [n for n in sought if first <= n < first + batch.num_rows]
                values = texts(batch.column(column).take(pa.array([n - first for n in here], pa.int64())))
                for n, value in zip(here, values, strict=True):
                    with suppress(ConfigError):  # it is no URI now
                        found[n] = storage.absolute(value or "", entry.uri)
        return {n: uri for n, uri in found.items() if _shown(uri) == sought[n]}


def _listed(entry: storage.Entry, number: int, text: str | None, key: str | None) -> Row:
    """Fill the columns of MANIFEST for a row of a list."""
    try:
        if not text:
            raise ShardError(f"row {number} has no URI, or more values than the list has columns")
        uri = storage.absolute(text, entry.uri)
    except (ShardError, ConfigError) as error:
        return numbered(entry, number) | failure("list", error)
    shown = _shown(uri)
    path = uri if uri == shown else printable(entry.key)
    return {"key": printable(key or shown), "source": shown, "version": "", "path": path, "row": number}


def _shown(uri: str) -> str:
    return printable(storage.redact_secrets(uri))


def _as_json(batch: pa.RecordBatch, carried: pa.Schema) -> list[str | None]:
    """Write the carried values of each row as a JSON object; None where nothing is carried."""
    if not carried.names:
        return [None] * batch.num_rows
    columns = [batch.column(field.name).cast(field.type).to_pylist() for field in carried]
    return [json.dumps(dict(zip(carried.names, values, strict=True))) for values in zip(*columns, strict=True)]


def _read(uris: Sequence[str | ShardError], most: int) -> list[Encoded]:
    """Read at most `most` bytes and one from each URI; what is none stays as it is."""
    data = iter(storage.read_anywhere([uri for uri in uris if isinstance(uri, str)], most + 1))
    return [next(data) if isinstance(uri, str) else uri for uri in uris]
