"""The tracker: what is being worked on and how far the run is, as every stage reports it."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from pipeline.batch.counts import Backlog, RunCounter, RunCounts


class Tracker(Protocol):
    """Takes what the stages report, in this process or another."""

    def lost_attempts(self, stage: str, keys: Sequence[str]) -> list[int]:
        """Count how often each key was begun at `stage` and never ended: its worker died on the way."""

    def begin(self, stage: str, keys: Sequence[str]) -> None:
        """Note that `keys` are being worked on, before a worker that they may kill touches them."""

    def end(self, stage: str, keys: Sequence[str], seconds: float) -> None:
        """Note that `keys` came through `stage`, and how long that took."""

    def finish(self, keys: Sequence[str], failed: int, kept: int) -> None:
        """Note keys that left the last stage, how many of them failed, and the labels kept in their refinement."""

    def backlog(self) -> Backlog:
        """Tell what waits to be refined on CPUs."""


class LocalTracker:
    """The Tracker of stages in this process; the actor behind RemoteTracker is one too."""

    def __init__(self) -> None:
        """Start with nothing being worked on."""
        self._open: Counter[tuple[str, str]] = Counter()  # (stage, key): attempts that have not ended
        self._counter = RunCounter()

    def lost_attempts(self, stage: str, keys: Sequence[str]) -> list[int]:
        """See Tracker."""
        return [self._open[stage, key] for key in keys]

    def begin(self, stage: str, keys: Sequence[str]) -> None:
        """See Tracker."""
        self._open.update((stage, key) for key in keys)
        self._counter.begin(stage, keys)

    def end(self, stage: str, keys: Sequence[str], seconds: float) -> None:
        """See Tracker."""
        for key in keys:
            self._open.pop((stage, key), None)
        self._counter.end(stage, keys, seconds)

    def finish(self, keys: Sequence[str], failed: int, kept: int) -> None:
        """See Tracker."""
        self._counter.finish(keys, failed, kept)

    def counts(self) -> RunCounts:
        """Return how far the run is."""
        return self._counter.counts()

    def backlog(self) -> Backlog:
        """See Tracker."""
        return self._counter.backlog()
