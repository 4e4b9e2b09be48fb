"""Images that kill their worker are recognized and given up, and the rest of their batch goes on.

A stage notes the keys of a unit of work before it starts and clears them when it is done. A batch that comes back with
keys still noted has lost its worker once: these images are then done one by one. An image that has lost MAX_ATTEMPTS
workers becomes a failed row.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.batch.tracker import Tracker
from pipeline.data import rows
from pipeline.errors import WorkerError

MAX_ATTEMPTS = 2

DEVICE_LOST = 70
"""Exit code of a worker whose GPU is in an error state."""

FIRST_UNIT = 16
"""Images of the first unit of work, and the least of any; a batch may have fewer."""

UNIT_SECONDS = 1.0
"""Work that is noted at once: noting takes a few milliseconds, and what is noted is done again where a worker dies."""

Process = Callable[[Iterator[pa.Table]], Iterator[pa.Table]]
"""Takes units one by one, before or while it works on those it has, and gives a table for each, in their order."""


class Isolation:
    """Runs a stage's work so that an image that kills the worker costs two workers and itself."""

    def __init__(self, stage: str, tracker: Tracker) -> None:
        """Note in `tracker` what `stage` works on, in units whose size follows from how long they take."""
        self._stage, self._tracker = stage, tracker
        self._unit = FIRST_UNIT

    def run(self, batch: pa.Table, process: Process, schema: pa.Schema) -> pa.Table:
        """Run `process` over the rows of `batch` that have neither failed nor a mask; give up on what kills its worker.

        Returns:
            for each row of `batch`, in its order, one of `schema`: a batch that is done again gives the same again.
        """
        keys, waits = batch.column("key").to_pylist(), _waiting(batch)
        live = [i for i, waiting in enumerate(waits) if waiting]
        lost = self._tracker.lost_attempts(self._stage, [keys[i] for i in live])
        attempts = dict(zip(live, lost, strict=True))
        fresh = [i for i in live if attempts[i] == 0]
        alone = [i for i in live if 0 < attempts[i] < MAX_ATTEMPTS]
        given_up = [i for i in live if attempts[i] >= MAX_ATTEMPTS]
        done = [i for i, waiting in enumerate(waits) if not waiting]
        parts = [table for part in (fresh, *([i] for i in alone)) for table in self._work(_rows(batch, part), process)]
        parts.append(rows.table([self._give_up(row) for row in _rows(batch, given_up).to_pylist()], rows.FETCHED))
        parts.append(_rows(batch, done))
        whole = pa.concat_tables([rows.widened(part, schema) for part in parts])
        return _rows(whole, np.argsort([*fresh, *alone, *given_up, *done]).tolist())

    def _work(self, batch: pa.Table, process: Process) -> Iterator[pa.Table]:
        """Give what `process` makes of `batch`, unit by unit, each noted before it is worked on and cleared after."""
        under_way: deque[tuple[list[str], float]] = deque()

        def units() -> Iterator[pa.Table]:
            start = 0
            while start < batch.num_rows:
                unit = batch.slice(start, self._unit)
                start += unit.num_rows
                keys = unit.column("key").to_pylist()
                self._tracker.begin(self._stage, keys)
                under_way.append((keys, time.monotonic()))
                yield unit

        ended = 0.0
        for done in process(units()):
            keys, began = under_way.popleft()
            began, ended = max(began, ended), time.monotonic()  # units that overlap are not counted twice
            self._tracker.end(self._stage, keys, ended - began)
            self._learn(len(keys) / max(ended - began, 1e-6))
            yield done

    def _learn(self, images_per_second: float) -> None:
        self._unit = max(FIRST_UNIT, min(2 * self._unit, round(UNIT_SECONDS * images_per_second)))

    def _give_up(self, row: rows.Row) -> rows.Row:
        error = WorkerError(f"the worker died {MAX_ATTEMPTS} times while it held this image; try the image by itself")
        return row | {"image": None} | rows.failure(self._stage, error)


def _waiting(batch: pa.Table) -> list[bool]:
    """Tell of each row whether it is still to be worked on."""
    waiting = pc.is_null(batch.column("error"))
    if "mask" in batch.column_names:
        waiting = pc.and_(waiting, pc.is_null(batch.column("mask")))
    plain: list[bool] = waiting.to_pylist()
    return plain


def _rows(table: pa.Table, places: list[int]) -> pa.Table:
    """Take some rows; all of them, in their order, without a copy."""
    return table if places == list(range(table.num_rows)) else table.take(pa.array(places, pa.int64()))
