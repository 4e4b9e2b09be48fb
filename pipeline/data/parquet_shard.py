"""A Parquet file of encoded images: which columns, the keys without the images, and the images of chosen rows.

Where pages carry checksums they are verified. A file is read by exact ranges: keys cost no bytes of images.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.data.shard import damage_as_shard_error, opened
from pipeline.errors import ConfigError, ShardError

KIND = "Parquet file"
_ROWS_AT_ONCE = 64
_BYTES_AT_ONCE = 64 * 1024 * 1024
_IMAGE_COLUMNS = ("image", "img", "bytes", "image_bytes", "jpg", "jpeg", "png", "data", "content")
_KEY_COLUMNS = ("key", "__key__", "id", "image_id", "filename", "file_name", "path", "name", "url", "uri")

Image = bytes | ShardError
"""Encoded bytes, or why there are none."""


@dataclass(frozen=True)
class Column:
    """A column called `name`, or the `field` of one that is a struct."""

    name: str
    field: str = ""

    @property
    def path(self) -> str:
        """As Parquet and Arrow's readers call it."""
        return f"{self.name}.{self.field}" if self.field else self.name

    def of(self, batch: pa.RecordBatch) -> pa.Array:
        """Its values in a batch that has it."""
        values = batch.column(self.name)
        return pc.struct_field(values, self.field) if self.field else values


@dataclass(frozen=True, kw_only=True)
class Columns:
    """`image` holds encoded bytes; `key`, where there is one, names the row."""

    image: Column
    key: Column | None


def choose_columns(schema: pa.Schema, uri: str) -> Columns:
    """Choose the image column (a {bytes, path} struct before a plain binary one) and the key column.

    Raises:
        ConfigError: no column can hold encoded images.
    """
    structs = [f.name for f in schema if pa.types.is_struct(f.type) and _has_bytes(f.type)]
    plain = [f.name for f in schema if _is_bytes(f.type)]
    image = _preferred(structs, _IMAGE_COLUMNS) or _preferred(plain, _IMAGE_COLUMNS)
    if image is None:
        raise ConfigError(
            f"{storage.redact(uri)} has no column of encoded images (binary, or a struct with `bytes`); "
            f"its columns are {', '.join(f'{f.name}: {f.type}' for f in schema)}"
        )
    keys = [f.name for f in schema if f.name in _KEY_COLUMNS and (pa.types.is_string(f.type) or _is_id(f.type))]
    key = Column(min(keys, key=_KEY_COLUMNS.index)) if keys else None
    if image not in structs:
        return Columns(image=Column(image), key=key)
    if key is None and schema.field(image).type.get_field_index("path") >= 0:
        key = Column(image, "path")
    return Columns(image=Column(image, "bytes"), key=key)


def check_columns(uri: str, version: str) -> None:
    """Raise ConfigError where the file holds no images, and ShardError or StorageError where it cannot be read."""
    with _file(uri, version) as file:
        choose_columns(file.schema_arrow, uri)


def keys(uri: str, version: str) -> Iterator[list[str | None]]:
    """The key of each row, None where it has none, a row group at a time; only the key column is read.

    Raises:
        ShardError: the rest of the file cannot be read, or it is not the one that was listed.
        ConfigError: it has no column of encoded images.
        StorageError: the storage does not answer, or refuses to.
    """
    with _file(uri, version) as file:
        columns = choose_columns(file.schema_arrow, uri)
        for group, numbers in enumerate(_row_numbers(file, columns.image, uri)):
            found: list[str | None] = [None] * len(numbers)
            if columns.key:
                batches = file.iter_batches(row_groups=[group], columns=[columns.key.path])
                values = [value for batch in batches for value in columns.key.of(batch).to_pylist()]
                found = [None if value is None else str(value) for value in values]
            if len(found) != len(numbers):
                raise ShardError(_short(uri, group, len(numbers), len(found)))
            yield found


def images(uri: str, version: str, wanted: Collection[int]) -> Iterator[dict[int, Image]]:
    """The rows numbered in `wanted`, some at a time, each exactly once: its encoded image, or what was in the way.

    Damage costs the rows of its row group; the others are read. Raises StorageError as `keys` does.
    """
    left = set(wanted)
    missing = ShardError(f"{storage.redact(uri)} no longer has this row; run again to list anew")
    try:
        with _file(uri, version) as file:
            column = choose_columns(file.schema_arrow, uri).image
            for group, numbers in enumerate(_row_numbers(file, column, uri)):
                here = {number for number in left if number in numbers}
                left -= here
                if here:
                    yield from _group_images(file, uri, column, group, numbers, here)
    except (ShardError, ConfigError) as error:
        missing = ShardError(str(error))
    if left:
        yield dict.fromkeys(left, missing)


def _group_images(
    file: pq.ParquetFile, uri: str, column: Column, group: int, numbers: range, wanted: set[int]
) -> Iterator[dict[int, Image]]:
    left, at = set(wanted), numbers.start
    bytes_a_row = _chunk(file, group, column).total_uncompressed_size // max(len(numbers), 1)
    at_once = max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // max(bytes_a_row, 1)))
    try:
        with damage_as_shard_error(uri, KIND):
            for batch in file.iter_batches(at_once, row_groups=[group], columns=[column.path]):
                found = {n: v for n, v in enumerate(column.of(batch).to_pylist(), start=at) if n in left}
                at += batch.num_rows
                left -= found.keys()
                if found:
                    yield {n: v if v is not None else ShardError(_null(uri, n)) for n, v in found.items()}
        missing = ShardError(_short(uri, group, len(numbers), at - numbers.start))
    except ShardError as error:
        missing = error
    if left:
        yield dict.fromkeys(left, missing)


@contextmanager
def _file(uri: str, version: str) -> Iterator[pq.ParquetFile]:
    with (
        opened(uri, version, KIND) as stream,
        pq.ParquetFile(stream, page_checksum_verification=True) as file,
    ):
        yield file


def _row_numbers(file: pq.ParquetFile, column: Column, uri: str) -> Iterator[range]:
    """The numbers of the rows in each row group. A count that the image column contradicts raises ShardError."""
    first = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        values = _chunk(file, number, column).num_values
        if group.num_rows != values:
            raise ShardError(_short(uri, number, group.num_rows, values))
        yield range(first, first + group.num_rows)
        first += group.num_rows


def _chunk(file: pq.ParquetFile, group: int, column: Column) -> pq.ColumnChunkMetaData:
    """What the file says of a column in a row group."""
    paths = [file.schema.column(i).path for i in range(len(file.schema))]
    return file.metadata.row_group(group).column(paths.index(column.path))


def _short(uri: str, group: int, said: int, found: int) -> str:
    return (
        f"{storage.redact(uri)} is not a readable {KIND}: row group {group} should have {said} rows, and holds {found}"
    )


def _null(uri: str, row: int) -> str:
    return f"row {row} of {storage.redact(uri)} holds no image (null)"


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _has_bytes(kind: pa.StructType) -> bool:
    return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)


def _is_id(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_integer(kind))


def _preferred(names: list[str], order: tuple[str, ...]) -> str | None:
    return min(names, key=lambda name: order.index(name) if name in order else len(order), default=None)
