"""Images that kill their worker are recognized and given up, and the rest of their batch goes on.

A stage notes the keys of a batch when it takes it up, by one call, and clears them unit by unit as they are done. A
batch that comes back with keys still noted has lost its worker: these are then done in units of half as many, and in
half of these, until an image loses a worker all alone: it becomes a failed row.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.batch.tracker import Finished, Loss, Tracker
from pipeline.data import rows
from pipeline.errors import WorkerError

MAX_ATTEMPTS = 2
"""Workers that an image may lose, the last of them alone, before it is given up; the other may be lost by chance."""

DEVICE_LOST = 70
"""Exit code of a worker whose GPU is in an error state."""

FIRST_UNIT = 16
"""Images of the first unit of work, and the least of any of a batch that is done for the first time."""

UNIT_SECONDS = 1.0
"""Work that is cleared at once: it costs a millisecond, and what is not cleared is suspected where a worker dies."""

_NOTHING: tuple[list[str], float] = ([], 0.0)

Process = Callable[[Iterator[pa.Table]], Iterator[pa.Table]]
"""Takes units one by one, before or while it works on those it has, and gives a table for each, in their order."""


class Isolation:
    """Runs a stage's work so that an image that kills the worker costs some workers and itself, and no other image."""

    def __init__(self, stage: str, tracker: Tracker) -> None:
        """Note in `tracker` what `stage` works on, in units whose size follows from how long they take."""
        self._stage, self._tracker = stage, tracker
        self._unit = FIRST_UNIT
        self._held = _NOTHING

    def run(
        self,
        batch: pa.Table,
        process: Process,
        schema: pa.Schema,
        finished: Callable[[pa.Table], Finished] | None = None,
    ) -> pa.Table:
        """Run `process` over the rows of `batch` that have neither failed nor a mask; give up on what kills its worker.

        Args:
            batch: rows with keys.
            process: the stage's work.
            schema: of what it makes.
            finished: what to note of the whole, with the clearing of its last unit, where no other stage comes behind.

        Returns:
            for each row of `batch`, in its order, one of `schema`: a batch that is done again gives the same again.
        """
        self._held = _NOTHING
        keys, waits = batch.column("key").to_pylist(), _waiting(batch)
        live = [i for i, waiting in enumerate(waits) if waiting]
        done = [i for i, waiting in enumerate(waits) if not waiting]
        losses = self._tracker.take(self._stage, [keys[i] for i in live]) if live else {}
        fresh = [i for i in live if keys[i] not in losses]
        given_up = [i for i in live if keys[i] in losses and _is_guilty(losses[keys[i]])]
        suspects = _halved([(i, losses[keys[i]].together) for i in live if keys[i] in losses and i not in given_up])
        holds = finished is not None
        parts = list(self._work(_rows(batch, fresh), process, holds))
        for some in suspects:
            self._clear()
            self._tracker.begin(self._stage, [keys[i] for i in some])
            parts += self._work(_rows(batch, some), process, holds)
        parts.append(rows.table([self._give_up(row) for row in _rows(batch, given_up).to_pylist()], rows.FETCHED))
        parts.append(_rows(batch, done))
        whole = pa.concat_tables([rows.widened(part, schema) for part in parts])
        whole = _rows(whole, np.argsort([*fresh, *chain(*suspects), *given_up, *done]).tolist())
        self._clear(finished(whole) if finished else None)
        return whole

    def _work(self, batch: pa.Table, process: Process, holds: bool) -> Iterator[pa.Table]:
        """Give what `process` makes of `batch`, which is noted, unit by unit, and clear each; the last may be held."""
        under_way: deque[tuple[list[str], float]] = deque()
        left = batch

        def units() -> Iterator[pa.Table]:
            nonlocal left
            while left.num_rows:
                unit = left.slice(0, self._unit)
                under_way.append((unit.column("key").to_pylist(), time.monotonic()))
                left = left.slice(unit.num_rows)  # now: where nothing is left, the last unit is under way
                yield unit

        ended = 0.0
        for done in process(units()):
            keys, began = under_way.popleft()
            began, ended = max(began, ended), time.monotonic()  # units that overlap are not counted twice
            self._held = keys, ended - began
            if under_way or left.num_rows or not holds:
                self._clear()
            self._learn(len(keys) / max(ended - began, 1e-6))
            yield done

    def _clear(self, finished: Finished | None = None) -> None:
        """Note that the unit which is held is done, and what is finished by it."""
        (keys, seconds), self._held = self._held, _NOTHING
        if keys or finished:
            self._tracker.end(self._stage, keys, seconds, finished)

    def _learn(self, images_per_second: float) -> None:
        self._unit = max(FIRST_UNIT, min(2 * self._unit, round(UNIT_SECONDS * images_per_second)))

    def _give_up(self, row: rows.Row) -> rows.Row:
        error = WorkerError("the worker died while it held this image alone, and before; try the image by itself")
        return row | {"image": None} | rows.failure(self._stage, error)


def _is_guilty(loss: Loss) -> bool:
    return loss.together == 1 and loss.times >= MAX_ATTEMPTS


def _halved(suspects: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Cut places into units of half as many as were lost together, or of one.

    Args:
        suspects: of each, its place and how many were lost together.
    """
    units: list[list[int]] = []
    for together, group in groupby(sorted(suspects, key=itemgetter(1, 0)), key=itemgetter(1)):
        places, half = [place for place, _ in group], max(1, together // 2)
        units += [places[i : i + half] for i in range(0, len(places), half)]
    return units


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
