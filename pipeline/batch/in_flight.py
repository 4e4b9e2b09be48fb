"""What is being worked on, so that an image which kills its worker is recognized and the rest goes on.

A stage notes the keys of a batch before it starts and clears them when it is done. A batch that comes back with a
strike has lost its worker once: its images are then done one by one. An image with two strikes becomes a failed row.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import ray

from pipeline.data import rows
from pipeline.errors import WorkerError

MAX_STRIKES = 2
_TOTALS_SECONDS = 15.0

DEVICE_LOST = 70
"""Exit code of a worker whose GPU is in an error state."""


@dataclass
class Totals:
    """How far a run is. After the loss of the process that counts it starts at 0 again.

    Attributes:
        finished: rows that left the last stage.
        failed: of these, rows without a mask.
        waiting: images that were segmented and are yet to be refined.
        images: images that came through a stage, by its name.
        seconds: time that the stage's workers were busy with them.
        kept: labels that took part in refinement, summed over the images.
    """

    finished: int = 0
    failed: int = 0
    waiting: int = 0
    images: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    kept: int = 0


class InFlight:
    """The strikes of each key at each stage, and how far the run is."""

    def __init__(self) -> None:
        """Start with nothing in flight."""
        self._strikes: Counter[tuple[str, str]] = Counter()
        self._waiting: set[str] = set()
        self._totals = Totals()

    def strikes(self, stage: str, keys: Sequence[str]) -> list[int]:
        """How often each key was begun at `stage` and never ended."""
        return [self._strikes[stage, key] for key in keys]

    def begin(self, stage: str, keys: Sequence[str]) -> None:
        """Note that `keys` are being worked on."""
        self._strikes.update((stage, key) for key in keys)
        if stage == "refine":
            self._waiting.difference_update(keys)

    def end(self, stage: str, keys: Sequence[str], seconds: float) -> None:
        """Note that `keys` came through, and how long that took."""
        for key in keys:
            self._strikes.pop((stage, key), None)
        if stage == "segment":
            self._waiting.update(keys)
        self._totals.images[stage] += len(keys)
        self._totals.seconds[stage] = self._totals.seconds.get(stage, 0.0) + seconds

    def count(self, finished: Sequence[str], failed: int, kept: int) -> None:
        """Add to the run's totals: keys that left the last stage, how many of them failed, and the labels kept."""
        self._waiting.difference_update(finished)
        self._totals.finished += len(finished)
        self._totals.failed += failed
        self._totals.kept += kept

    def totals(self) -> Totals:
        """So far."""
        self._totals.waiting = len(self._waiting)
        return self._totals


class Watch(Protocol):
    """InFlight as a stage sees it, in this process or another."""

    def strikes(self, stage: str, keys: Sequence[str]) -> list[int]:
        """See InFlight."""

    def begin(self, stage: str, keys: Sequence[str]) -> None:
        """See InFlight."""

    def end(self, stage: str, keys: Sequence[str], seconds: float) -> None:
        """See InFlight."""

    def count(self, finished: Sequence[str], failed: int, kept: int) -> None:
        """See InFlight."""


class RemoteWatch:
    """InFlight in an actor of its own, for stages in other processes. It can be sent to them."""

    def __init__(self) -> None:
        """Start the actor; it survives the loss of its process, without its memory."""
        actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(InFlight)
        self._actor = actor.remote()

    def strikes(self, stage: str, keys: Sequence[str]) -> list[int]:
        """See InFlight."""
        found: list[int] = ray.get(self._actor.strikes.remote(stage, keys))
        return found

    def begin(self, stage: str, keys: Sequence[str]) -> None:
        """See InFlight; waits, since a worker that dies right after must have been noted."""
        ray.get(self._actor.begin.remote(stage, keys))

    def end(self, stage: str, keys: Sequence[str], seconds: float) -> None:
        """See InFlight."""
        self._actor.end.remote(stage, keys, seconds)

    def count(self, finished: Sequence[str], failed: int, kept: int) -> None:
        """See InFlight."""
        self._actor.count.remote(finished, failed, kept)

    def totals(self) -> Totals:
        """See InFlight. Raises ray.exceptions.GetTimeoutError where the actor is away for long."""
        totals: Totals = ray.get(self._actor.totals.remote(), timeout=_TOTALS_SECONDS)
        return totals

    def stop(self) -> None:
        """End the actor."""
        ray.kill(self._actor)


def survive(stage: str, batch: pa.Table, process: Callable[[pa.Table], pa.Table], watch: Watch) -> list[pa.Table]:
    """Run `process` over `batch`, giving up on images that have taken their worker down twice.

    Returns:
        what `process` returned, part by part, and a table of failed rows (schema FETCHED) for the images given up.
    """
    keys = batch.column("key").to_pylist()
    strikes = watch.strikes(stage, keys)
    fresh = [i for i, count in enumerate(strikes) if count == 0]
    alone = [[i] for i, count in enumerate(strikes) if 0 < count < MAX_STRIKES]
    done = []
    for part in [fresh, *alone]:
        if part:
            chosen = [keys[i] for i in part]
            watch.begin(stage, chosen)
            began = time.monotonic()
            done.append(process(batch.take(part)))
            watch.end(stage, chosen, time.monotonic() - began)
    lost = [i for i, count in enumerate(strikes) if count >= MAX_STRIKES]
    if lost:
        done.append(rows.table([_given_up(row, stage) for row in batch.take(lost).to_pylist()], rows.FETCHED))
    return done


def _given_up(row: dict[str, object], stage: str) -> dict[str, object]:
    error = WorkerError(f"the worker died {MAX_STRIKES} times while it held this image; try the image by itself")
    return {name: row[name] for name in ("key", "source", "version", "digest")} | rows.failure(stage, error)
