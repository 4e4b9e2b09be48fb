"""The manifest: what a round of a run will do, as Parquet files of ids, written while the input is listed.

A row group of the manifest is a chunk: the images that one read task fetches. Chunks start small, so that a small
bucket is spread over all workers, and grow with the listing, so that a large one does not drown in tasks.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.data.rows import MANIFEST

MIN_CHUNK_ROWS = 4
MAX_CHUNK_ROWS = 1024
_SHARE = 16
"""A chunk has this part of all that was listed before it, so that a dozen tasks fetch at a time to the end of a run."""

_ROWS_PER_FILE = 65536


class Ids(NamedTuple):
    """Some ids, a table of schema MANIFEST. With `whole` it is never cut: its rows share a row group, read as one."""

    table: pa.Table
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row group of a manifest file, by its number; `rows` images."""

    file: int
    group: int
    rows: int


@dataclass
class Manifest:
    """Write manifest files below `uri` and remember their chunks; hold one file's ids in memory at a time."""

    uri: str
    chunks: list[Chunk] = field(default_factory=list)
    rows: int = 0
    _file: int = 0
    _buffer: io.BytesIO = field(default_factory=io.BytesIO)
    _writer: pq.ParquetWriter | None = None
    _pending: list[pa.Table] = field(default_factory=list)
    _pending_rows: int = 0
    _groups: int = 0
    _file_rows: int = 0

    def write(self, listed: Iterable[Ids]) -> None:
        """Append ids; they can be read once the manifest is closed."""
        for ids in listed:
            self._add(ids.table, ids.whole)

    def close(self) -> None:
        """Write what is left."""
        self._flush_chunk()
        self._close_file()

    def _add(self, table: pa.Table, whole: bool) -> None:
        while table.num_rows:
            size = min(max((self.rows - self._pending_rows) // _SHARE, MIN_CHUNK_ROWS), MAX_CHUNK_ROWS)
            taken = table if whole else table.slice(0, size - self._pending_rows)
            table = table.slice(taken.num_rows)
            self._pending.append(taken)
            self._pending_rows += taken.num_rows
            self.rows += taken.num_rows
            if self._pending_rows >= size:
                self._flush_chunk()

    def _flush_chunk(self) -> None:
        if not self._pending_rows:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._buffer, MANIFEST, compression="zstd")
        chunk = pa.concat_tables(self._pending).combine_chunks()
        self._writer.write_table(chunk, row_group_size=chunk.num_rows)
        self.chunks.append(Chunk(self._file, self._groups, chunk.num_rows))
        self._groups += 1
        self._file_rows += chunk.num_rows
        self._pending.clear()
        self._pending_rows = 0
        if self._file_rows >= _ROWS_PER_FILE:
            self._close_file()

    def _close_file(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        storage.put_whole(_file_uri(self.uri, self._file), self._buffer.getvalue())
        self._buffer, self._writer = io.BytesIO(), None
        self._file, self._groups, self._file_rows = self._file + 1, 0, 0


def read_chunk(uri: str, chunk: Chunk) -> pa.Table:
    """Read the manifest rows of one chunk, schema MANIFEST. Raises StorageError."""
    with storage.opened(_file_uri(uri, chunk.file)) as stream, pq.ParquetFile(stream) as file:
        return file.read_row_group(chunk.group)


def _file_uri(uri: str, number: int) -> str:
    return storage.join(uri, f"part-{number:06d}.parquet")
