"""Finished rows into Parquet files, each committed whole.

The driver holds references to finished blocks. When enough have come together, by size or by time, one Ray task near
the data concatenates them and puts the files. A repeated task writes the same names again.

Blocks below 100 KB, which blocks of few masks are, Ray keeps in the memory of the driver itself, and again in the task
that they are arguments of: up to three times FILE_BYTES for each file that is being written.
"""

import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from pipeline import masks, storage
from pipeline.batch.monitoring.log import log
from pipeline.batch.parts import PartId
from pipeline.masks import CommittedFile, DatasetInfo
from pipeline.runtime.errors import get
from pipeline.runtime.lock import put_checked

FILE_BYTES = 224 * 1024 * 1024
"""Bytes of finished blocks that make one file; PNGs do not shrink further, so files stay below 256 MiB."""

WRITES_AT_ONCE = 4
_LOGGED = ("key", "source", "stage", "error", "message")


class Written(NamedTuple):
    """A file that was put: where, whether in errors/, its size in bytes and the keys in it, as in CommittedFile."""

    uri: str
    failed: bool
    size: int
    keys: tuple[str, str] | None


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Says what one commit put into the output.

    Attributes:
        segmented: rows of masks/.
        causes: rows of errors/ by their cause, (stage, error).
        seconds: how long it took.
        files: that were put.
    """

    segmented: int
    causes: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0
    files: tuple[Written, ...] = ()

    @property
    def failed(self) -> int:
        """Count the rows of errors/."""
        return self.causes.total()


@dataclass
class Committer:
    """Collects blocks and commits them below `output`, a file at least every `seconds`.

    `check` is called where the files are put, right before each, and raises where this run may commit no more.

    One thread may add while another commits; when storage is slower than the graph, adding waits.
    """

    output: str
    info: DatasetInfo
    seconds: float
    check: Callable[[], None]
    receipts: list[Receipt] = field(default_factory=list)
    _blocks: list[Any] = field(default_factory=list)
    _bytes: int = 0
    _since: float = field(default_factory=time.monotonic)
    _files: int = 0
    _writing: list[Any] = field(default_factory=list)
    _lock: Any = field(default_factory=threading.Lock)

    @property
    def rows(self) -> int:
        """Count the rows that are committed."""
        return sum(receipt.segmented + receipt.failed for receipt in self.receipts)

    def files(self, part: PartId) -> list[CommittedFile]:
        """List the files committed that may hold rows of the part."""
        written = (file for receipt in self.receipts for file in receipt.files)
        files = (CommittedFile(info=self.info, **file._asdict()) for file in written)
        return [file for file in files if file.may_hold(*part.keys)]

    def add(self, block: Any, size: int) -> None:
        """Take a reference to a finished block of `size` bytes."""
        with self._lock:
            if not self._blocks:
                self._since = time.monotonic()
            self._blocks.append(block)
            self._bytes += size
            if self._bytes >= FILE_BYTES:
                self._commit()

    def commit_if_due(self, seconds: float | None = None) -> None:
        """Commit what has waited `seconds`, by default the Committer's, and take the receipts of what is committed."""
        seconds = self.seconds if seconds is None else seconds
        with self._lock:
            if self._blocks and time.monotonic() - self._since >= seconds:
                self._commit()
            self._settle(allowed=len(self._writing))

    def finish(self) -> None:
        """Commit the rest and wait for every file."""
        with self._lock:
            if self._blocks:
                self._commit()
            self._settle(allowed=0)

    def _commit(self) -> None:
        self._settle(allowed=WRITES_AT_ONCE - 1)
        name = f"{self.info.run_id}-{self._files:05d}.parquet"
        blocks = self._blocks
        self._blocks, self._bytes = [], 0  # an interrupt may lose them, not repeat them
        self._files += 1
        self._writing.append(
            _write_files.remote(self.output, name, self.info, self.check, storage.retry_seconds(), *blocks)
        )

    def _settle(self, allowed: int) -> None:
        """Take the receipts of writes that are done; wait until at most `allowed` are under way."""
        while self._writing:
            too_many = len(self._writing) - allowed
            done, self._writing = ray.wait(
                self._writing, num_returns=max(too_many, 1), timeout=None if too_many > 0 else 0
            )
            if not done:
                return
            self.receipts.extend(get(done))


@ray.remote(num_cpus=0, max_retries=3)
def _write_files(
    output: str, name: str, info: DatasetInfo, check: Callable[[], None], retry_seconds: float, *blocks: pa.Table
) -> Receipt:
    """Do write_files. The blocks come as arguments so that Ray fetches them, and rebuilds those a lost node held."""
    finished = pa.concat_tables(blocks)
    began = time.monotonic()
    with storage.retrying(retry_seconds):
        receipt = write_files(output, name, info, finished, check)
    for row in finished.filter(pc.is_valid(finished.column("error"))).select(_LOGGED).to_pylist():
        log("failed", run_id=info.run_id, **row)
    log("committed", run_id=info.run_id, file=name, segmented=receipt.segmented, failed=receipt.failed)
    return replace(receipt, seconds=time.monotonic() - began)


def write_files(
    output: str, name: str, info: DatasetInfo, finished: pa.Table, check: Callable[[], None] = lambda: None
) -> Receipt:
    """Put the rows of `finished` (schema FINISHED) into masks/NAME and errors/NAME, each only if it has a row.

    `check` is called right before each is put, again where the storage has to be asked again.
    """
    good = pc.is_null(finished.column("error"))
    segmented, failed = finished.filter(good), finished.filter(pc.invert(good))
    written = []
    for rows, folder, schema in (
        (_with_carried(segmented, info), masks.MASKS_FOLDER, info.masks_schema),
        (failed, masks.ERRORS_FOLDER, masks.ERRORS_SCHEMA),
    ):
        uri = storage.join(output, folder, name)
        if rows.num_rows:
            data = _parquet(rows, schema, info)
            put_checked(uri, data, check)
            keys = masks.key_range(pq.read_metadata(io.BytesIO(data)))
            written.append(Written(uri, folder == masks.ERRORS_FOLDER, len(data), keys))
        elif storage.exists(uri):  # of an attempt that was lost, for which other rows had failed
            storage.delete(uri)
    causes = zip(failed.column("stage").to_pylist(), failed.column("error").to_pylist(), strict=True)
    return Receipt(segmented=segmented.num_rows, causes=Counter(causes), files=tuple(written))


def _with_carried(rows: pa.Table, info: DatasetInfo) -> pa.Table:
    """Add the columns that were carried."""
    values = [json.loads(text) for text in rows.column("carried").to_pylist()] if info.carried else []
    for name, kind in info.carried.items():
        rows = rows.append_column(name, pa.array([row[name] for row in values], pa.type_for_alias(kind)))
    return rows


def _parquet(rows: pa.Table, schema: pa.Schema, info: DatasetInfo) -> bytes:
    constant = {"model": info.model, "run_id": info.run_id}
    columns = [
        pa.array([constant[f.name]] * rows.num_rows, f.type) if f.name in constant else rows.column(f.name)
        for f in schema
    ]
    table = pa.table(columns, schema=schema.with_metadata(info.to_metadata(schema)))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=1024)
    return buffer.getvalue()
