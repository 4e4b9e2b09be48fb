"""What the input holds: images, WebDataset tars or Parquet files, listed without fetching an image."""

import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

import pyarrow as pa

from pipeline import storage
from pipeline.batch import parquet_shard, rows
from pipeline.batch.shard import opened
from pipeline.errors import ConfigError, ShardError, StorageError
from pipeline.images import EXTENSIONS

Format = Literal["images", "webdataset", "parquet"]

_SAMPLED = 1000
_TAR_READ_AHEAD = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class Source:
    """An input that was opened: `root` is the URI that every entry's path lies below.

    `patience` is for how many seconds a storage that does not answer is asked again.
    """

    uri: str
    root: str
    format: Format
    patience: float = 0.0

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
    storage.probe_object(entry.uri)
    if source.format == "parquet":
        with suppress(ShardError):  # one damaged file among many is a failed row, and no reason to refuse the rest
            parquet_shard.check_columns(entry.uri, entry.version)


def list_objects(entries: Sequence[storage.Entry]) -> pa.Table:
    """Manifest rows of objects that are images themselves; a name that is not UTF-8 makes a failed row."""
    return rows.table([_row(entry) | _unusable(entry) for entry in entries], rows.MANIFEST)


def index_shard(entry: storage.Entry, kind: Format) -> Iterator[pa.Table]:
    """Manifest rows of one tar or Parquet file, in tables that are best fetched together.

    A shard that is damaged, gone, or cut in the middle gives what came before and one failed row named after it.
    Raises StorageError where its storage does not answer, or refuses to.
    """
    try:
        yield from _index_tar(entry) if kind == "webdataset" else _index_parquet(entry)
    except (ShardError, ConfigError) as error:
        yield rows.table([_row(entry) | rows.failure("list", error)], rows.MANIFEST)


_PLURAL = {"images": "images", "webdataset": "tar files", "parquet": "Parquet files"}


def _format_of(name: str) -> Format | None:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in EXTENSIONS:
        return "images"
    return {".tar": "webdataset", ".parquet": "parquet"}.get(suffix)  # type: ignore[return-value]


def _row(entry: storage.Entry) -> dict[str, Any]:
    key = rows.printable(entry.key)
    return {"key": key, "source": rows.printable(storage.redact(entry.uri)), "version": entry.version, "path": key}


def _unusable(entry: storage.Entry) -> dict[str, str]:
    if rows.printable(entry.key) == entry.key:
        return {}
    return rows.failure("list", StorageError(f"the name {rows.printable(entry.key)} is not UTF-8; rename the file"))


def _index_tar(entry: storage.Entry) -> Iterator[pa.Table]:
    """Every image member; the key is the member's name without its extension (the WebDataset convention).

    Headers are read ahead in small blocks, so large members are stepped over and small ones are not asked for singly.
    """
    found: list[dict[str, Any]] = []
    try:
        with (
            opened(entry.uri, entry.version, "tar", _TAR_READ_AHEAD) as stream,
            tarfile.open(fileobj=stream, mode="r:") as archive,
        ):
            end = stream.seek(0, os.SEEK_END)
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # it would keep every header it has seen
                if member.offset_data + member.size > end:
                    raise tarfile.ReadError(f"it ends within {member.name}")
                name = PurePosixPath(member.name)
                if name.suffix.lower() in EXTENSIONS and not name.name.startswith(".") and not member.isdir():
                    found.append(_row(entry) | _member(member, name))
            stream.seek(archive.offset)  # a damaged header ends the archive as its mark does
            if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError(f"no header and no end of the archive at byte {archive.offset}")
    finally:
        if found:
            yield rows.table(found, rows.MANIFEST)


def _member(member: tarfile.TarInfo, name: PurePosixPath) -> dict[str, Any]:
    """The key and the span of an image member; what is no file fails, since its bytes would be those of another."""
    found = {"key": rows.printable(str(name.with_suffix(""))), "offset": member.offset_data, "length": member.size}
    if member.isfile():
        return found
    said = f"{member.name} is a link or a device, and holds no image; store the image itself"
    return found | rows.failure("list", ShardError(said))


def _index_parquet(entry: storage.Entry) -> Iterator[pa.Table]:
    """One table a row group."""
    first = 0
    for keys in parquet_shard.keys(entry.uri, entry.version):
        names = {n: key if key is not None else f"{entry.key}#{n}" for n, key in enumerate(keys, start=first)}
        yield rows.table([_row(entry) | {"key": name, "row": n} for n, name in names.items()], rows.MANIFEST)
        first += len(keys)
