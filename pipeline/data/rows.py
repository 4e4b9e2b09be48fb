"""The tables of images that are listed and fetched, and what every later table has in common with them.

A row that failed keeps its place: `stage`, `error` and `message` are set, later stages pass it on, and it ends in
errors/.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline import storage
from pipeline.errors import StorageError

Row = dict[str, Any]
"""A row of a table; columns that it does not name are null."""

FAILURE_FIELDS = [
    pa.field("stage", pa.string()),
    pa.field("error", pa.string()),
    pa.field("message", pa.string()),
]

MANIFEST = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("source", pa.string()),
        pa.field("version", pa.string()),
        pa.field("format", pa.string()),  # of the object that holds the bytes, as FORMATS names it
        pa.field("path", pa.string()),  # of that object, below the input's root
        pa.field("offset", pa.int64()),  # of a tar member
        pa.field("length", pa.int64()),  # bytes of a member or object that is the image; of a table's row, the mean
        pa.field("row", pa.int64()),  # row of a table
        pa.field("carried", pa.string()),  # values that go into the output, as a JSON object by their columns
        *FAILURE_FIELDS,
    ]
)
"""One image a row: its identity, and where its bytes are."""

FETCHED = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("source", pa.string()),
        pa.field("version", pa.string()),
        pa.field("digest", pa.string()),
        pa.field("image", pa.large_binary()),  # encoded, as it lies in the bucket
        pa.field("carried", pa.string()),  # as in MANIFEST
        *FAILURE_FIELDS,
    ]
)


def listed(entry: storage.Entry) -> Row:
    """Fill the columns of MANIFEST that any object has, under the key of an image that is the whole of it."""
    key = printable(entry.key)
    return {"key": key, "source": printable(storage.redact(entry.uri)), "version": entry.version, "path": key}


def within(entry: storage.Entry, name: str) -> Row:
    """Fill the columns of MANIFEST that an image called `name` in a shard has.

    Its key begins with the shard's path, so that it depends on nothing but the two: shards that name their images alike
    take no key from each other, whichever is listed first, and one that comes later changes no key.
    """
    row = listed(entry)
    return row | {"key": f"{row['path']}/{name}"}


def numbered(entry: storage.Entry, place: int) -> Row:
    """Fill the columns of MANIFEST that an image has which only its place in a shard tells from others."""
    row = listed(entry)
    return row | {"key": f"{row['path']}#{place}"}


def failure(stage: str, error: Exception) -> dict[str, str]:
    """Fill the failure columns for what `stage` raised."""
    return {"stage": stage, "error": type(error).__name__, "message": printable(str(error))[:2000]}


def name_problem(entry: storage.Entry) -> StorageError | None:
    """Say what is wrong with a name that no table can hold; None for a good one."""
    name = printable(entry.key)
    return None if name == entry.key else StorageError(f"the name {name} is not UTF-8; rename the file")


def printable(text: str) -> str:
    """Write bytes that are not UTF-8, which Python holds as lone surrogates, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Make a table of `schema`; columns a row does not name are null, what it names beyond is left out."""
    return pa.table({f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in schema}, schema=schema)


def widened(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give `part` exactly the columns of `schema`: those it lacks are null, those it has beyond are dropped."""
    columns = [part.column(f.name) if f.name in part.column_names else pa.nulls(part.num_rows, f.type) for f in schema]
    return pa.table(columns, schema=schema)
