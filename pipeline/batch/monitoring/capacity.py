"""Whether the cluster still has what a run was planned for."""

import time
from collections.abc import Callable, Mapping

import ray

from pipeline.runtime.plan import Plan
from pipeline.runtime.progress import say

_PATIENCE_SECONDS = 60.0


def of_cluster() -> Mapping[str, float]:
    """Resources of all machines that are alive, used or free, by Ray's names."""
    found: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


class Capacity:
    """Tells when machines that the plan counts on are gone, and when others are there in their place.

    Ray keeps the work of a lost actor for its successor, which waits for room: without it the run stands still.
    """

    def __init__(
        self,
        plan: Plan,
        resources: Callable[[], Mapping[str, float]] = of_cluster,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch the room for `plan` in `resources`."""
        self._needed = {
            "CPU": plan.segmenters * plan.segmenter_cpus + plan.refiners * plan.refiner_cpus,
            "GPU": float(plan.segmenters * plan.segmenter_gpus),
        }
        self._resources, self._now = resources, now
        self._since: float | None = None
        self._told = False

    def check(self) -> None:
        """Say so, once, where there has been too little room for a minute, and once where there is enough again."""
        has = self._resources()
        if all(has.get(name, 0.0) >= amount for name, amount in self._needed.items()):
            if self._told:
                say("the cluster has room for the plan again")
            self._since, self._told = None, False
            return
        if self._since is None:
            self._since = self._now()
        if not self._told and self._now() - self._since >= _PATIENCE_SECONDS:
            self._told = True
            lack = ", ".join(f"{has.get(kind, 0.0):g} of {wanted:g} {kind}" for kind, wanted in self._needed.items())
            say(
                f"machines were lost: {lack} of the plan are left; waiting for others to come, "
                "or stop this run: the same command continues with what is there"
            )
