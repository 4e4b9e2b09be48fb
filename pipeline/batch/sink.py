"""Finished rows into Parquet files, each committed whole.

The driver holds references to finished blocks. When enough have come together, by size or by time, one Ray task near
the data concatenates them and puts the files. A repeated task writes the same names again. To be compact, what has
waited for its time is staged first (`staging.py`), until it fills a file.

Blocks below 100 KB, which blocks of few masks are, Ray keeps in the memory of the driver itself, and again in the task
that they are arguments of: up to three times FILE_BYTES for each file that is being written.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline import masks, storage
from pipeline.batch.monitoring.log import log
from pipeline.batch.parcels import unpacked
from pipeline.batch.parts import PartId
from pipeline.batch.staging import Written, merge, put_rows
from pipeline.masks import CommittedFile, DatasetInfo
from pipeline.runtime.errors import get

FILE_BYTES = 224 * 1024 * 1024
"""Bytes of finished blocks that make one file; PNGs do not shrink further, so files stay below 256 MiB."""

WRITES_AT_ONCE = 4
_LOGGED = ("key", "source", "stage", "error", "message")


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Says what one commit put into the output.

    Attributes:
        segmented: rows of masks/.
        causes: rows of errors/ by their cause, (stage, error).
        seconds: how long it took.
        files: that were put, and that stay.
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
    """Collects blocks and commits them below `output`, a file at least every `seconds`; if `compact`, large files.

    `check` is called where the files are put, right before each, and raises where this run may commit no more.

    One thread may add while another commits; when storage is slower than the graph, adding waits.
    """

    output: str
    info: DatasetInfo
    seconds: float
    check: Callable[[], None]
    compact: bool = False
    receipts: list[Receipt] = field(default_factory=list)
    _blocks: list[Any] = field(default_factory=list)
    _bytes: int = 0
    _since: float = field(default_factory=time.monotonic)
    _files: int = 0
    _staged: list[str] = field(default_factory=list)
    _staged_bytes: int = 0
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
            if self._bytes + self._staged_bytes >= FILE_BYTES:
                self._commit(staged=bool(self._staged))
                self._merge()

    def commit_if_due(self, seconds: float | None = None) -> None:
        """Commit what has waited `seconds`, by default the Committer's, and take the receipts of what is committed."""
        seconds = self.seconds if seconds is None else seconds
        with self._lock:
            if self._blocks and time.monotonic() - self._since >= seconds:
                self._commit(staged=self.compact)
            self._settle(allowed=len(self._writing))

    def finish(self) -> None:
        """Commit the rest and wait for every file."""
        with self._lock:
            if self._blocks:
                self._commit(staged=bool(self._staged))
            self._merge()
            self._settle(allowed=0)

    def _commit(self, staged: bool) -> None:
        self._settle(allowed=WRITES_AT_ONCE - 1)
        name = f"{self.info.run_id}-{self._files:05d}.parquet"
        blocks, size = self._blocks, self._bytes
        self._blocks, self._bytes = [], 0  # an interrupt may lose them, not repeat them
        self._files += 1
        if staged:
            self._staged.append(name)
            self._staged_bytes += size
        self._writing.append(
            _write_files.remote(self.output, name, self.info, self.check, staged, storage.retry_seconds(), *blocks)
        )

    def _merge(self) -> None:
        """Bring what is staged into files that readers see."""
        if not self._staged:
            return
        self._settle(allowed=0)
        names, self._staged, self._staged_bytes = self._staged, [], 0
        self._writing.append(_merge.remote(self.output, names, self.check, storage.retry_seconds()))

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
    output: str,
    name: str,
    info: DatasetInfo,
    check: Callable[[], None],
    staged: bool,
    retry_seconds: float,
    *blocks: pa.Table,
) -> Receipt:
    """Do write_files with parcels: as arguments, so that Ray fetches them, and rebuilds those that a lost node held."""
    finished = unpacked(pa.concat_tables(blocks))
    began = time.monotonic()
    with storage.retrying(retry_seconds):
        root = storage.join(output, masks.STAGED_FOLDER) if staged else output
        receipt = write_files(root, name, info, finished, check)
    for row in finished.filter(pc.is_valid(finished.column("error"))).select(_LOGGED).to_pylist():
        log("failed", run_id=info.run_id, **row)
    log("committed", run_id=info.run_id, file=name, segmented=receipt.segmented, failed=receipt.failed)
    return replace(receipt, seconds=time.monotonic() - began, files=() if staged else receipt.files)


@ray.remote(num_cpus=0, max_retries=3)
def _merge(output: str, names: Sequence[str], check: Callable[[], None], retry_seconds: float) -> Receipt:
    """Do staging.merge; what it puts was counted when it was staged."""
    began = time.monotonic()
    with storage.retrying(retry_seconds):
        written = merge(output, names, check)
    return Receipt(segmented=0, seconds=time.monotonic() - began, files=tuple(written))


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
            written.append(put_rows(output, folder, name, _table(rows, schema, info), check))
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


def _table(rows: pa.Table, schema: pa.Schema, info: DatasetInfo) -> pa.Table:
    constant = {"model": info.model, "run_id": info.run_id}
    columns = [
        pa.array([constant[f.name]] * rows.num_rows, f.type) if f.name in constant else rows.column(f.name)
        for f in schema
    ]
    return pa.table(columns, schema=schema.with_metadata(info.to_metadata(schema)))
