"""How far a run is, counted stage by stage."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple


@dataclass(kw_only=True)
class RunCounts:
    """Says how far a run is. After the loss of the process that counts it starts at 0 again.

    Attributes:
        finished: rows that left the last stage.
        failed: of these, rows without a mask.
        waiting: images that were segmented and are yet to be refined.
        images: images that came through a stage, by its name.
        seconds: time that the stage's workers were busy with them.
        kept: labels that took part in refinement, summed over the images.
        workers: actors that have taken part in a stage, by its name.
    """

    finished: int = 0
    failed: int = 0
    waiting: int = 0
    images: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    kept: int = 0
    workers: Counter[str] = field(default_factory=Counter)


class Backlog(NamedTuple):
    """Say what waits for the CPUs that refine, and who takes part.

    Attributes:
        waiting: images.
        seconds: that a CPU takes for an image; None before the first.
        segmenters, refiners: actors that have taken up work so far.
    """

    waiting: int
    seconds: float | None
    segmenters: int = 0
    refiners: int = 0


class RunCounter:
    """Adds up what the stages report into RunCounts."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._counts = RunCounts()
        self._waiting: set[str] = set()
        self._workers: defaultdict[str, set[str]] = defaultdict(set)

    def begin(self, stage: str, keys: Sequence[str], worker: str) -> None:
        """Count `keys` as being worked on at `stage` by `worker`."""
        self._workers[stage].add(worker)
        if stage == "refine":
            self._waiting.difference_update(keys)

    def end(self, stage: str, keys: Sequence[str], seconds: float) -> None:
        """Count `keys` as through `stage`, which took `seconds`."""
        if stage == "segment":
            self._waiting.update(keys)
        elif stage != "fetch":  # which ends with its chunk, of which some are segmented by then
            self._waiting.difference_update(keys)  # refined where they were segmented
        self._counts.images[stage] += len(keys)
        self._counts.seconds[stage] = self._counts.seconds.get(stage, 0.0) + seconds

    def finish(self, keys: Sequence[str], failed: int, kept: int) -> None:
        """Count `keys` as through the last stage: how many of them failed, and the labels kept in their refinement."""
        self._waiting.difference_update(keys)
        self._counts.finished += len(keys)
        self._counts.failed += failed
        self._counts.kept += kept

    def counts(self) -> RunCounts:
        """Return the counts so far."""
        workers = Counter({stage: len(names) for stage, names in self._workers.items()})
        return replace(self._counts, waiting=len(self._waiting), workers=workers)

    def backlog(self) -> Backlog:
        """Return what waits to be refined on CPUs."""
        refined = self._counts.images["refine"]
        seconds = self._counts.seconds["refine"] / refined if refined else None
        return Backlog(len(self._waiting), seconds, len(self._workers["segment"]), len(self._workers["refine"]))
