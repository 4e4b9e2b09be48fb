"""Which images a tar or Parquet file holds, and where in it; found once for each version of the file, and kept."""

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.data import parquet_shard, rows
from pipeline.data.digests import identity
from pipeline.data.shard import opened
from pipeline.errors import ConfigError, ShardError
from pipeline.images import EXTENSIONS

_TAR_READ_AHEAD = 256 * 1024


def index_shard(entry: storage.Entry, kind: str, kept_at: str = "") -> Iterator[pa.Table]:
    """Manifest rows of one tar or Parquet file, in tables that are best fetched together.

    A shard that is damaged, gone, or cut in the middle gives what came before and one failed row named after it.

    Args:
        entry: the shard as it was listed.
        kind: webdataset or parquet.
        kept_at: folder of the indexes found before, by which a rerun reads no shard again; empty to keep none.

    Raises:
        StorageError: a storage does not answer, or refuses to.
    """
    kept = storage.join(kept_at, f"{identity(entry.uri, entry.version).hex()}.parquet") if kept_at else ""
    known = _read(kept) if kept else None
    if known is not None:
        yield from known
        return
    found: list[pa.Table] = []
    try:
        for table in _index_tar(entry) if kind == "webdataset" else _index_parquet(entry):
            found.append(table)
            yield table
    except (ShardError, ConfigError) as error:
        yield rows.table([rows.listed(entry) | rows.failure("list", error)], rows.MANIFEST)
        return
    if kept:
        _write(kept, found)


def _read(kept: str) -> list[pa.Table] | None:
    """The tables of an index; None where there is none, or none that can be used."""
    try:
        data = storage.read_if_there(kept)
        if data is None:
            return None
        file = pq.ParquetFile(io.BytesIO(data))
        if file.schema_arrow != rows.MANIFEST:
            return None
        return [file.read_row_group(group) for group in range(file.num_row_groups)]
    except (OSError, pa.ArrowException):
        return None


def _write(kept: str, tables: Sequence[pa.Table]) -> None:
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, rows.MANIFEST, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(table.num_rows, 1))
    storage.put_whole(kept, buffer.getvalue())


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
                if member.offset_data + member.size > end and not member.issparse():
                    raise tarfile.ReadError(f"it ends within {member.name}")
                name = PurePosixPath(member.name)
                if name.suffix.lower() in EXTENSIONS and not name.name.startswith(".") and not member.isdir():
                    found.append(rows.listed(entry) | _member(member, name))
            stream.seek(archive.offset)  # a damaged header ends the archive as its mark does
            if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError(f"no header and no end of the archive at byte {archive.offset}")
    finally:
        if found:
            yield rows.table(found, rows.MANIFEST)


def _member(member: tarfile.TarInfo, name: PurePosixPath) -> dict[str, Any]:
    """The key and the span of an image member; what is no plain file fails: its bytes do not lie there in one piece."""
    found = {"key": rows.printable(str(name.with_suffix(""))), "offset": member.offset_data, "length": member.size}
    if member.isfile() and not member.issparse():
        return found
    said = f"{member.name} is a link, a device or a sparse file, and holds no image as it is; store the image itself"
    return found | rows.failure("list", ShardError(said))


def _index_parquet(entry: storage.Entry) -> Iterator[pa.Table]:
    """One table a row group."""
    first = 0
    for keys in parquet_shard.keys(entry.uri, entry.version):
        names = {n: key if key is not None else f"{entry.key}#{n}" for n, key in enumerate(keys, start=first)}
        yield rows.table([rows.listed(entry) | {"key": name, "row": n} for n, name in names.items()], rows.MANIFEST)
        first += len(keys)
