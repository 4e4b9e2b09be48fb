"""The tracker: what is being worked on and how far the run is, as every stage reports it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import pyarrow as pa

from pipeline.batch.counts import Backlog, RunCounter, RunCounts


class Loss(NamedTuple):
    """Say how many workers a key has lost at a stage, and how many keys were noted together with it the last time."""

    times: int
    together: int


class Finished(NamedTuple):
    """Say which keys have left the last stage, how many of them failed, and the labels kept in their refinement."""

    keys: Sequence[str]
    failed: int = 0
    kept: int = 0


def finished_by(done: pa.Table, kept: int = 0) -> Finished:
    """Describe a table of rows that leave the last stage, whose refinement kept so many labels."""
    return Finished(done.column("key").to_pylist(), done.num_rows - done.column("error").null_count, kept)


class Tracker(Protocol):
    """Takes what the stages report, in this process or another."""

    def take(self, stage: str, keys: Sequence[str]) -> Mapping[str, Loss]:
        """Note that a worker has taken up `keys` together, and give those that it had noted already.

        They were begun at `stage` and never ended: their worker died on the way. These are left as they are noted.
        """

    def begin(self, stage: str, keys: Sequence[str]) -> None:
        """Note that `keys`, lost before, are worked on again by themselves, before their worker touches them."""

    def end(self, stage: str, keys: Sequence[str], seconds: float, finished: Finished | None = None) -> None:
        """Note that `keys` came through `stage`, how long that took, and what is finished by it, if that is known."""

    def backlog(self) -> Backlog:
        """Tell what waits to be refined on CPUs."""


class LocalTracker:
    """The Tracker of stages in this process; the actor behind RemoteTracker is one too."""

    def __init__(self) -> None:
        """Start with nothing being worked on."""
        self._open: defaultdict[str, dict[str, Loss]] = defaultdict(dict)  # by stage: what has not ended
        self._counter = RunCounter()

    def take(self, stage: str, keys: Sequence[str], worker: str = "") -> Mapping[str, Loss]:
        """See Tracker; `worker` tells workers apart."""
        noted = self._open[stage]
        lost = {key: noted[key] for key in noted.keys() & keys}
        noted.update(dict.fromkeys(keys, Loss(1, len(keys) - len(lost))) | lost)
        self._counter.begin(stage, keys, worker)
        return lost

    def begin(self, stage: str, keys: Sequence[str]) -> None:
        """See Tracker."""
        noted = self._open[stage]
        noted.update({key: Loss(noted[key].times + 1 if key in noted else 1, len(keys)) for key in keys})

    def end(self, stage: str, keys: Sequence[str], seconds: float, finished: Finished | None = None) -> None:
        """See Tracker."""
        noted = self._open[stage]
        for key in keys:
            noted.pop(key, None)
        self._counter.end(stage, keys, seconds)
        if finished:
            self._counter.finish(*finished)

    def counts(self) -> RunCounts:
        """Return how far the run is."""
        return self._counter.counts()

    def backlog(self) -> Backlog:
        """See Tracker."""
        return self._counter.backlog()
