"""Which images a file of the input holds, and where in it. The index of a shard is made once a version, and kept."""

import io
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.data import rows
from pipeline.data.digests import identity
from pipeline.data.formats.format import Format
from pipeline.data.rows import Row
from pipeline.errors import ConfigError, NoInputError, ShardError


def index_objects(entries: Iterable[storage.Entry], reader: Format) -> pa.Table:
    """List objects that are images themselves, as a table of schema MANIFEST."""
    listed: list[Row] = []
    for entry in entries:
        common = {"format": reader.name} | _failed_name(entry)
        listed.extend(row | common for some in reader.index(entry) for row in some)
    return rows.table(listed, rows.MANIFEST)


def index_shard(entry: storage.Entry, reader: Format, kept_at: str = "") -> Iterator[pa.Table]:
    """List the images of one shard, in tables of schema MANIFEST that are best fetched together.

    A shard that is damaged, gone, or cut in the middle gives what came before and one failed row named after it. Of
    images that share a key the first has it; each other is a failed row, named after its place.

    Args:
        entry: the shard as it was listed.
        reader: of its format.
        kept_at: folder of the indexes made before, by which a rerun reads no shard again; empty to keep none.

    Raises:
        NoInputError: the file is none that is read.
        StorageError: a storage does not answer, or refuses to.
    """
    kept = kept_index(entry, reader, kept_at)
    yield from make_index(entry, reader, kept_at) if kept is None else kept


def kept_index(entry: storage.Entry, reader: Format, kept_at: str) -> list[pa.Table] | None:
    """Read the index of a shard, as index_shard gives it; None where none is kept that can be used.

    Raises:
        StorageError: as index_shard does.
    """
    if not kept_at or rows.name_problem(entry):
        return None
    data = storage.read_if_there(storage.join(kept_at, index_name(entry, reader)))
    if data is None:
        return None
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        if file.schema_arrow != rows.MANIFEST:
            return None
        return [file.read_row_group(group) for group in range(file.num_row_groups)]
    except (OSError, pa.ArrowException):
        return None


def make_index(entry: storage.Entry, reader: Format, kept_at: str = "") -> Iterator[pa.Table]:
    """List the images of one shard by opening it, and keep that; see index_shard."""
    problem = _failed_name(entry)
    if problem:
        yield rows.table([rows.listed(entry) | problem], rows.MANIFEST)
        return
    tables = []
    keys: set[str] = set()
    try:
        for some in reader.index(entry):
            unique = [_unique(row | {"format": reader.name}, keys, entry) for row in some]
            tables.append(rows.table(unique, rows.MANIFEST))
            yield tables[-1]
    except NoInputError:
        raise
    except (ShardError, ConfigError) as error:
        yield rows.table([rows.listed(entry) | rows.failure("list", error)], rows.MANIFEST)
        return
    if kept_at:
        _write(storage.join(kept_at, index_name(entry, reader)), tables)


def index_name(entry: storage.Entry, reader: Format) -> str:
    """Name the index of a shard after its URI, its version, and whatever else decides what is in it."""
    decided = f"{entry.version}\0{reader.index_id}" if reader.index_id else entry.version
    return f"{identity(entry.uri, decided).hex()}.parquet"


def _unique(row: Row, keys: set[str], entry: storage.Entry) -> Row:
    """Give the row as it is where its key is new among `keys`, and else a failed row named after its place."""
    key = row["key"]
    if key not in keys:
        keys.add(key)
        return row
    place = row["row"] if row.get("offset") is None else row["offset"]
    error = ShardError(f"the key {key!r} is that of an earlier image of this file, which has it; rename one of them")
    return row | rows.numbered(entry, place) | rows.failure("list", error)


def _failed_name(entry: storage.Entry) -> dict[str, str]:
    """Fill the failure columns for a name that no manifest can hold; empty for a good one."""
    problem = rows.name_problem(entry)
    return rows.failure("list", problem) if problem else {}


def _write(kept: str, tables: Sequence[pa.Table]) -> None:
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, rows.MANIFEST, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(table.num_rows, 1))
    storage.put_whole(kept, buffer.getvalue())
