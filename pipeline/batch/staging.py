"""Rows on their way into large files: what is committed few rows at a time waits in OUTPUT/_staged/ for more.

Staged rows are as safe as others, and the ledger counts them, but no reader of masks/ sees them. A file comes into
masks/ whole, under the name of its first staged one; then these are deleted. So a reader sees each row once or, for a
while, not yet. What a run that was killed has left in _staged/, the next one moves.
"""

import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import masks, storage
from pipeline.errors import MissingError
from pipeline.masks import CommittedFile
from pipeline.runtime.lock import put_checked

_ROWS_A_GROUP = 1024


class Written(NamedTuple):
    """A file that was put: where, whether in errors/, its size in bytes and the keys in it, as in CommittedFile."""

    uri: str
    failed: bool
    size: int
    keys: tuple[str, str] | None


def put_rows(output: str, folder: str, name: str, table: pa.Table, check: Callable[[], None]) -> Written:
    """Put a file into `folder`, masks/ or errors/; `check` as in put_checked. Raises as that does."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=_ROWS_A_GROUP)
    uri = storage.join(output, folder, name)
    put_checked(uri, buffer.getvalue(), check)
    return _written(uri, folder, buffer.getvalue())


def _written(uri: str, folder: str, data: bytes) -> Written:
    keys = masks.key_range(pq.read_metadata(io.BytesIO(data)))
    return Written(uri, folder == masks.ERRORS_FOLDER, len(data), keys)


def staged(output: str) -> list[CommittedFile]:
    """List the files that wait below `output`, newest first. Raises StorageError."""
    return masks.committed_files(storage.join(output, masks.STAGED_FOLDER))


def merge(output: str, names: Sequence[str], check: Callable[[], None]) -> list[Written]:
    """Put the rows of the staged files `names` into one of masks/ and one of errors/, and delete the staged ones.

    It may be called again where it was stopped: a file that is there is whole, and nothing is deleted before both are.

    Args:
        output: of the run.
        names: of files of one run, the first of which no other call begins with.
        check: called right before each put; raises where this run may write no more.

    Raises:
        StorageError: the storage cannot be read or written, or does not answer.
    """
    written = []
    for folder in (masks.MASKS_FOLDER, masks.ERRORS_FOLDER):
        uri = storage.join(output, folder, names[0])
        before = storage.read_if_there(uri)
        if before is not None:
            written.append(_written(uri, folder, before))
            continue
        found = [storage.read_if_there(_place(output, folder, name)) for name in names]
        tables = [pq.read_table(io.BytesIO(data)) for data in found if data is not None]
        if tables:
            written.append(put_rows(output, folder, names[0], pa.concat_tables(tables), check))
    for name in names:
        for folder in (masks.MASKS_FOLDER, masks.ERRORS_FOLDER):
            _delete(_place(output, folder, name))
    return written


def adopt(output: str, check: Callable[[], None]) -> None:
    """Move what a run that was killed has left staged, but for rows that it had merged already; remove half a file.

    Raises as `merge` does.
    """
    for below in (output, storage.join(output, masks.STAGED_FOLDER)):
        for folder in (masks.MASKS_FOLDER, masks.ERRORS_FOLDER):
            storage.remove_unfinished(storage.join(below, folder))
    waiting = staged(output)
    committed = masks.committed_files(output) if waiting else []
    for file in waiting:
        same = [one for one in committed if (one.info.run_id, one.failed) == (file.info.run_id, file.failed)]
        there = {key for one in same if _may_share(one, file) for (key,) in masks.read_columns(one.uri, ["key"])}
        table = pq.read_table(io.BytesIO(storage.read_bytes(file.uri)))
        is_there = pc.is_in(table.column("key"), value_set=pa.array(sorted(there), pa.string()))
        if not pc.all(is_there).as_py():
            folder = masks.ERRORS_FOLDER if file.failed else masks.MASKS_FOLDER
            put_rows(output, folder, storage.base_name(file.uri), table.filter(pc.invert(is_there)), check)
        _delete(file.uri)


def _may_share(one: CommittedFile, other: CommittedFile) -> bool:
    return other.keys is None or one.may_hold(*other.keys)


def _place(output: str, folder: str, name: str) -> str:
    return storage.join(output, masks.STAGED_FOLDER, folder, name)


def _delete(uri: str) -> None:
    with suppress(MissingError):
        storage.delete(uri)
