"""How GPUs and CPUs share the refinement: CPUs take pictures while they can, GPUs refine what they cannot."""

from dataclasses import dataclass
from typing import NamedTuple

from pipeline.batch.counts import Backlog, RunCounts

FIRST_IMAGES = 8
"""Images that each CPU gets before it is known how long it takes for one."""

MEASURED_IMAGES = 64

SLACK_SECONDS = 2.0
"""Work that the CPUs have left when the next is sent: it is on its way for so long."""

ON_GPU = "refine on GPU"
"""The stage under which a tracker counts what a GPU has refined; CPUs are counted under refine."""


class GpuCosts(NamedTuple):
    """Hold the seconds that a worker with a GPU takes for an image: for all but its refinement, and for that."""

    network: float
    refinement: float


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Says how many images of a batch go to the CPUs: as many as keep them at work until the next batch comes.

    So neither the GPUs nor the CPUs wait for the other, however fast they are, and what waits is bounded.

    Attributes:
        segmenters: workers with a GPU at first, which share the CPUs evenly; those that join are in the backlog.
        refiners: workers that refine on a CPU at first.
    """

    segmenters: int
    refiners: int

    def for_cpus(self, images: int, backlog: Backlog, costs: GpuCosts | None) -> int:
        """Give how many of a batch of `images` are for the CPUs.

        A batch takes T(n) = images * (network + refinement) - n * refinement where n are for the CPUs, and reaches
        them as a whole. Then they should have work for as long again: waiting + n - r T(n) = r (T(n) + SLACK_SECONDS),
        with r the images that they refine in a second.

        Args:
            images: in the batch.
            backlog: what waits for the CPUs, and what they take for an image.
            costs: what the worker took for its last images; None before the first.
        """
        segmenters, refiners = max(self.segmenters, backlog.segmenters), max(self.refiners, backlog.refiners)
        if backlog.seconds is None or costs is None:
            return max(0, min(images, (refiners * FIRST_IMAGES - backlog.waiting) // segmenters))
        rate = refiners / segmenters / backlog.seconds
        wanted = rate * (2 * images * sum(costs) + SLACK_SECONDS) - backlog.waiting / segmenters
        return max(0, min(images, round(wanted / (1 + 2 * rate * costs.refinement))))

    def told(self, counts: RunCounts) -> str | None:
        """Say in a line how the refinement is shared, and why; None before both have refined MEASURED_IMAGES."""
        on_cpus, on_gpus = counts.images["refine"], counts.images[ON_GPU]
        if min(on_cpus, on_gpus) < MEASURED_IMAGES:
            return None
        cpu, gpu = counts.seconds["refine"] / on_cpus, counts.seconds[ON_GPU] / on_gpus
        segmenters = max(self.segmenters, counts.workers["segment"])
        refiners = max(self.refiners, counts.workers["refine"])
        return (
            f"refined: {on_cpus / (on_cpus + on_gpus):.0%} of the images on {refiners} CPUs, {1e3 * cpu:.3g} ms "
            f"each, which is all that they can take; the others on {segmenters} GPUs, {1e3 * gpu:.3g} ms each"
        )
