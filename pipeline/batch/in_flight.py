"""What is being worked on, so that an image which kills its worker is recognized and the rest goes on.

A stage notes the keys of a batch before it starts and clears them when it is done. A batch that comes back with a
strike has lost its worker once: its images are then done one by one. An image with two strikes becomes a failed row.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pyarrow as pa
import ray

from pipeline.batch import rows
from pipeline.errors import WorkerError

MAX_STRIKES = 2

DEVICE_LOST = 70
"""Exit code of a worker whose GPU is in an error state."""


class InFlight:
    """The strikes of each key at each stage, and how far the run is."""

    def __init__(self) -> None:
        """Start with nothing in flight."""
        self._strikes: Counter[tuple[str, str]] = Counter()
        self._finished = self._failed = 0

    def strikes(self, stage: str, keys: Sequence[str]) -> list[int]:
        """How often each key was begun at `stage` and never ended."""
        return [self._strikes[stage, key] for key in keys]

    def begin(self, stage: str, keys: Sequence[str]) -> None:
        """Note that `keys` are being worked on."""
        self._strikes.update((stage, key) for key in keys)

    def end(self, stage: str, keys: Sequence[str]) -> None:
        """Note that `keys` came through."""
        for key in keys:
            self._strikes.pop((stage, key), None)

    def count(self, finished: int, failed: int) -> None:
        """Add to the run's progress: rows that left the last stage, and how many of them failed."""
        self._finished += finished
        self._failed += failed

    def progress(self) -> tuple[int, int]:
        """(finished, failed) so far."""
        return self._finished, self._failed


class Watch(Protocol):
    """InFlight as a stage sees it, in this process or another."""

    def strikes(self, stage: str, keys: Sequence[str]) -> list[int]:
        """See InFlight."""

    def begin(self, stage: str, keys: Sequence[str]) -> None:
        """See InFlight."""

    def end(self, stage: str, keys: Sequence[str]) -> None:
        """See InFlight."""

    def count(self, finished: int, failed: int) -> None:
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

    def end(self, stage: str, keys: Sequence[str]) -> None:
        """See InFlight."""
        self._actor.end.remote(stage, keys)

    def count(self, finished: int, failed: int) -> None:
        """See InFlight."""
        self._actor.count.remote(finished, failed)

    def progress(self) -> tuple[int, int]:
        """See InFlight."""
        finished, failed = ray.get(self._actor.progress.remote())
        return finished, failed

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
            done.append(process(batch.take(part)))
            watch.end(stage, chosen)
    lost = [i for i, count in enumerate(strikes) if count >= MAX_STRIKES]
    if lost:
        done.append(rows.table([_given_up(row, stage) for row in batch.take(lost).to_pylist()], rows.FETCHED))
    return done


def _given_up(row: dict[str, object], stage: str) -> dict[str, object]:
    error = WorkerError(f"the worker died {MAX_STRIKES} times while it held this image; try the image by itself")
    return {name: row[name] for name in ("key", "source", "version", "digest")} | rows.failure(stage, error)
