"""Images that kill their worker are recognized and given up, and the rest of their batch goes on.

A stage notes the keys of a batch when it takes it up, by one call, and clears them unit by unit as they are done. A
batch that comes back with keys still noted has lost its worker: these are then done in units of half as many, and in
half of these, until an image loses a worker all alone: it becomes a failed row.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
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
    ) -> Iterator[pa.Table]:
        """Run `process` over the rows of `batch` that have neither failed nor a mask; give up on what kills its worker.

        Args:
            batch: rows with keys.
            process: the stage's work.
            schema: of what it makes.
            finished: what to note of rows that are given, where no other stage comes behind; it is told, of all of
                them, with the clearing of the last unit.

        Yields:
            tables which have together one row of `schema` for each row of `batch`, in its order: a batch that is done
            again gives the same again. A row comes as soon as all before it are done, and its unit is cleared when the
            next are asked for: handing rows on may kill a worker too.
        """
        self._held = _NOTHING
        keys, waits = batch.column("key").to_pylist(), _waiting(batch)
        live = [i for i, waiting in enumerate(waits) if waiting]
        done = [i for i, waiting in enumerate(waits) if not waiting]
        losses = self._tracker.take(self._stage, [keys[i] for i in live]) if live else {}
        fresh = [i for i in live if keys[i] not in losses]
        given_up = [i for i in live if keys[i] in losses and _is_guilty(losses[keys[i]])]
        suspects = _halved([(i, losses[keys[i]].together) for i in live if keys[i] in losses and i not in given_up])
        ordered, told = _Ordered(schema), list[Finished]()

        def parts() -> Iterator[tuple[list[int], pa.Table]]:
            failed = [self._give_up(row) for row in _rows(batch, given_up).to_pylist()]
            yield given_up, rows.table(failed, rows.FETCHED)
            yield done, _rows(batch, done)
            yield from self._work(batch, fresh, process, finished is not None)
            for some in suspects:
                self._clear()
                self._tracker.begin(self._stage, [keys[i] for i in some])
                yield from self._work(batch, some, process, finished is not None)

        for places, part in parts():
            ready = ordered.take(places, part)
            if finished and ready.num_rows:
                told.append(finished(ready))
            if ready.num_rows:
                yield ready
        self._clear(_together(told) if finished else None)

    def _work(
        self, batch: pa.Table, places: list[int], process: Process, holds: bool
    ) -> Iterator[tuple[list[int], pa.Table]]:
        """Give what `process` makes of some rows, which are noted, unit by unit with their places, and clear each.

        The last is held, to be cleared with what is told then, if `holds`.
        """
        under_way: deque[tuple[list[int], list[str], float]] = deque()
        left = deque(places)

        def units() -> Iterator[pa.Table]:
            while left:
                taken = [left.popleft() for _ in range(min(self._unit, len(left)))]
                unit = _rows(batch, taken)
                under_way.append((taken, unit.column("key").to_pylist(), time.monotonic()))
                yield unit

        ended = 0.0
        for done in process(units()):
            taken, keys, began = under_way.popleft()
            seconds = time.monotonic() - max(began, ended)  # units that overlap are not counted twice
            self._held = keys, seconds
            self._learn(len(keys) / max(seconds, 1e-6))
            yield taken, done
            if under_way or left or not holds:
                self._clear()
            ended = time.monotonic()  # what it has waited until it was asked for more is not its own

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


class _Ordered:
    """Puts the parts of a batch into its order."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._held, self._places = schema.empty_table(), list[int]()
        self._next = 0

    def take(self, places: list[int], part: pa.Table) -> pa.Table:
        """Take rows with their places in the batch; give those that are held and have all before them."""
        held = pa.concat_tables([self._held, rows.widened(part, self._schema)])
        order = np.argsort([*self._places, *places]).tolist()
        places = sorted([*self._places, *places])
        count = next((i for i, place in enumerate(places) if place != self._next + i), len(places))
        self._held, self._places, self._next = _rows(held, order[count:]), places[count:], self._next + count
        return _rows(held, order[:count])


def _together(told: Sequence[Finished]) -> Finished:
    keys = [key for one in told for key in one.keys]
    return Finished(keys, sum(one.failed for one in told), sum(one.kept for one in told))


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
    """Take some rows; without a copy those that follow each other."""
    first = places[0] if places else 0
    if places == list(range(first, first + len(places))):
        return table.slice(first, len(places))
    return table.take(pa.array(places, pa.int64()))
