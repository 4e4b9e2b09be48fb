"""What the input holds: images, WebDataset tars or Parquet files, listed without fetching an image."""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.batch import rows
from pipeline.errors import ConfigError, StorageError
from pipeline.images import EXTENSIONS

Format = Literal["images", "webdataset", "parquet"]

_SAMPLED = 1000
_TAR_READ_AHEAD = 256 * 1024
_IMAGE_COLUMNS = ("image", "img", "bytes", "image_bytes", "jpg", "jpeg", "png", "data", "content")
_KEY_COLUMNS = ("key", "__key__", "id", "image_id", "filename", "file_name", "path", "name", "url", "uri")


@dataclass(frozen=True, kw_only=True)
class Source:
    """An input that was opened: `root` is the URI that every entry's path lies below."""

    uri: str
    root: str
    format: Format

    def entries(self) -> Iterator[storage.Entry]:
        """Stream the objects that hold images."""
        return (entry for entry in storage.list_files(self.uri) if _format_of(entry.key) == self.format)


def open_source(uri: str, input_format: Literal["auto", "images", "webdataset", "parquet"]) -> Source:
    """Find out what `uri` holds, and open the first of it.

    Raises:
        StorageError: the storage does not answer or may not be read, or there is nothing of the wanted format.
        ConfigError: the first Parquet file has no column of encoded images.
    """
    first = storage.probe_readable(uri)
    if first is None:
        raise StorageError(f"nothing is listed at {storage.redact(uri)}; check the bucket and the prefix")
    sampled = list(islice(storage.list_files(uri), _SAMPLED))
    seen = [_format_of(entry.key) for entry in sampled]
    counts = {kind: seen.count(kind) for kind in get_args(Format)}
    chosen: Format = max(counts, key=lambda kind: counts[kind]) if input_format == "auto" else input_format
    if counts[chosen] == 0 and (input_format == "auto" or len(sampled) < _SAMPLED):
        raise StorageError(
            f"no {'images, tar or Parquet files' if input_format == 'auto' else _PLURAL[chosen]} under "
            f"{storage.redact(uri)}; the first name there is {first.key!r}"
        )
    root = first.uri[: len(first.uri) - len(first.key)].rstrip("/")
    source = Source(uri=uri, root=root, format=chosen)
    _open_first(source)
    return source


def _open_first(source: Source) -> None:
    """A key that may list but not read, or a table without images, would otherwise show only once actors run."""
    entry = next(source.entries())
    [head] = storage.read_ranges(source.root, [entry.key], [0], [1])
    if isinstance(head, StorageError):
        raise head
    if source.format == "parquet":
        filesystem, path = storage.arrow_filesystem(entry.uri)
        try:
            schema = pq.read_schema(path, filesystem=filesystem)
        except pa.ArrowInvalid:
            return  # one damaged file among many is a failed row, and no reason to refuse the rest
        parquet_columns(schema, entry.uri)


def list_objects(entries: Sequence[storage.Entry]) -> pa.Table:
    """Manifest rows of objects that are images themselves."""
    return rows.table([_row(entry) for entry in entries], rows.MANIFEST)


def index_shard(entry: storage.Entry, kind: Format) -> Iterator[pa.Table]:
    """Manifest rows of one tar or Parquet file, in tables that are best fetched together.

    A shard that cannot be read, or is cut in the middle, gives what came before and one failed row named after it.
    """
    try:
        yield from _index_tar(entry) if kind == "webdataset" else _index_parquet(entry)
    except (tarfile.TarError, pa.ArrowInvalid, EOFError, ConfigError) as error:
        message = f"{storage.redact(entry.uri)} is not a readable {_SINGULAR[kind]}: {error}"
        yield rows.table([_row(entry) | rows.failure("list", StorageError(message))], rows.MANIFEST)


_PLURAL = {"images": "images", "webdataset": "tar files", "parquet": "Parquet files"}
_SINGULAR = {"webdataset": "tar", "parquet": "Parquet file"}


def _format_of(name: str) -> Format | None:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in EXTENSIONS:
        return "images"
    return {".tar": "webdataset", ".parquet": "parquet"}.get(suffix)  # type: ignore[return-value]


def _row(entry: storage.Entry) -> dict[str, Any]:
    return {"key": entry.key, "source": storage.redact(entry.uri), "version": entry.version, "path": entry.key}


def _index_tar(entry: storage.Entry) -> Iterator[pa.Table]:
    """Every image member; the key is the member's name without its extension (the WebDataset convention).

    Headers are read ahead in small blocks, so large members are stepped over and small ones are not asked for singly.
    """
    fs, path = storage.filesystem(entry.uri)
    found: list[dict[str, Any]] = []
    try:
        with (
            fs.open(path, "rb", block_size=_TAR_READ_AHEAD, cache_type="readahead") as stream,
            tarfile.open(fileobj=stream, mode="r:") as archive,
        ):
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # it would keep every header it has seen
                name = PurePosixPath(member.name)
                if member.isfile() and name.suffix.lower() in EXTENSIONS and not name.name.startswith("."):
                    span = {"offset": member.offset_data, "length": member.size}
                    found.append(_row(entry) | {"key": str(name.with_suffix(""))} | span)
    finally:
        if found:
            yield rows.table(found, rows.MANIFEST)


def _index_parquet(entry: storage.Entry) -> Iterator[pa.Table]:
    """One table a row group; only the key column is read."""
    filesystem, path = storage.arrow_filesystem(entry.uri)
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        columns = parquet_columns(file.schema_arrow, entry.uri)
        first = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if columns.key:
                keys = file.read_row_group(group, columns=[columns.key])
                names = [_key_at(value) for value in _leaf(keys, columns.key).to_pylist()]
            else:
                names = [None] * count
            found = [
                _row(entry) | {"key": name if name is not None else f"{entry.key}#{first + i}", "row": first + i}
                for i, name in enumerate(names)
            ]
            yield rows.table(found, rows.MANIFEST)
            first += count


@dataclass(frozen=True, kw_only=True)
class ParquetColumns:
    """Dotted column paths: `image` holds encoded bytes, `key` (empty where there is none) names the row."""

    image: str
    key: str


def parquet_columns(schema: pa.Schema, uri: str) -> ParquetColumns:
    """Choose the image column (a {bytes, path} struct before a plain binary one) and the key column.

    Raises:
        ConfigError: no column can hold encoded images.
    """
    structs = [f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    plain = [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    image = _preferred(structs, _IMAGE_COLUMNS) or _preferred(plain, _IMAGE_COLUMNS)
    if image is None:
        raise ConfigError(
            f"{storage.redact(uri)} has no column of encoded images (binary, or a struct with `bytes`); "
            f"its columns are {', '.join(f'{f.name}: {f.type}' for f in schema)}"
        )
    keys = [f.name for f in schema if f.name in _KEY_COLUMNS and (pa.types.is_string(f.type) or _is_id(f.type))]
    key = min(keys, key=_KEY_COLUMNS.index, default="")
    if not key and image in structs and schema.field(image).type.get_field_index("path") >= 0:
        key = f"{image}.path"
    return ParquetColumns(image=f"{image}.bytes" if image in structs else image, key=key)


def _is_id(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_integer(kind))


def _preferred(names: list[str], order: tuple[str, ...]) -> str | None:
    return min(names, key=lambda name: order.index(name) if name in order else len(order), default=None)


def _leaf(table: pa.Table, column: str) -> pa.ChunkedArray:
    """The values of a dotted column path."""
    name, _, field = column.partition(".")
    values = table.column(name)
    return pa.chunked_array([pc.struct_field(c, field) for c in values.chunks]) if field else values


def _key_at(value: Any) -> str | None:
    return None if value is None else str(value)
