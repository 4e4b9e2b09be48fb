"""The tracker of a whole run: one small actor that the stages of all machines report to."""

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from pipeline.batch.counts import Backlog, RunCounts
from pipeline.batch.tracker import Finished, LocalTracker, Loss

_COUNTS_SECONDS = 15.0


class RemoteTracker:
    """A LocalTracker in an actor of its own, for stages in other processes. It can be sent to them."""

    def __init__(self) -> None:
        """Start the actor. Ray replaces its process when that is lost, and the new one begins with nothing."""
        actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(LocalTracker)
        self._actor = actor.remote()

    def take(self, stage: str, keys: Sequence[str]) -> Mapping[str, Loss]:
        """See Tracker; waits, since a worker that dies right after must have been noted."""
        worker = ray.get_runtime_context().get_actor_id()
        lost: Mapping[str, Loss] = ray.get(self._actor.take.remote(stage, keys, worker or ""))
        return lost

    def begin(self, stage: str, keys: Sequence[str]) -> None:
        """See Tracker; waits, as `take` does."""
        ray.get(self._actor.begin.remote(stage, keys))

    def end(self, stage: str, keys: Sequence[str], seconds: float, finished: Finished | None = None) -> None:
        """See Tracker."""
        self._actor.end.remote(stage, keys, seconds, finished)

    def backlog(self) -> Backlog:
        """See Tracker."""
        backlog: Backlog = ray.get(self._actor.backlog.remote())
        return backlog

    def counts(self) -> RunCounts:
        """Return how far the run is. Raises ray.exceptions.GetTimeoutError where the actor is away for long."""
        counts: RunCounts = ray.get(self._actor.counts.remote(), timeout=_COUNTS_SECONDS)
        return counts

    def stop(self) -> None:
        """End the actor."""
        ray.kill(self._actor)
