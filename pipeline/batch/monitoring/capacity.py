"""Whether the cluster still has what a run was planned for."""

import time
from collections.abc import Callable, Mapping

import ray

from pipeline.runtime.plan import Plan
from pipeline.runtime.progress import say

_REPORT_SECONDS = 60.0


def of_cluster() -> Mapping[str, float]:
    """Give the resources of all machines that are alive, used or free, by Ray's names."""
    resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


class Capacity:
    """Says when machines that the plan counts on are gone, and when others are there in their place.

    Ray keeps the work of a lost actor for its successor, which waits for a machine; until one comes the run stands
    still.
    """

    def __init__(
        self,
        plan: Plan,
        resources: Callable[[], Mapping[str, float]] = of_cluster,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Compare what `plan` needs with `resources`; `now` gives the time in seconds."""
        self._needed = {
            "CPU": plan.segmenters * plan.segmenter_cpus + plan.refiners * plan.refiner_cpus,
            "GPU": float(plan.segmenters * plan.segmenter_gpus),
        }
        self._resources, self._now = resources, now
        self._since: float | None = None
        self._reported = False

    def check(self) -> None:
        """Say once that the cluster has been too small for a minute, and once that it is large enough again."""
        resources = self._resources()
        if all(resources.get(name, 0.0) >= amount for name, amount in self._needed.items()):
            if self._reported:
                say("the cluster can hold the plan again")
            self._since, self._reported = None, False
            return
        if self._since is None:
            self._since = self._now()
        if not self._reported and self._now() - self._since >= _REPORT_SECONDS:
            self._reported = True
            left = ", ".join(
                f"{resources.get(kind, 0.0):g} of {needed:g} {kind}" for kind, needed in self._needed.items()
            )
            say(
                f"machines were lost: {left} of the plan are left; waiting for others to come, "
                "or stop this run: the same command continues with what is there"
            )
