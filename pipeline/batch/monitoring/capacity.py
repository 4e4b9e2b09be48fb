"""What the cluster has while a run works: machines that go, and machines that join."""

import time
from collections.abc import Callable, Mapping

import ray

from pipeline.runtime.plan import Plan
from pipeline.runtime.progress import say

_SETTLED_SECONDS = 30.0
"""How long a change has to last before it is said: a machine that is replaced at once is not worth a word."""


def of_cluster() -> Mapping[str, float]:
    """Give the resources of all machines that are alive, used or free, by Ray's names."""
    resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


class Capacity:
    """Says when the cluster has become smaller or larger, and when nothing of it can do the run's work.

    Ray keeps the work of a lost actor for its successor, which needs room on a machine: one that joins, or one whose
    actors have nothing left to do.
    """

    def __init__(
        self,
        plan: Plan,
        resources: Callable[[], Mapping[str, float]] = of_cluster,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Follow `resources` for a run with this plan; `now` gives the time in seconds."""
        self._kinds = ("CPU", "GPU") if plan.segmenter_gpus else ("CPU",)
        self._needed = {
            "CPU": max(plan.segmenter_cpus, plan.refiner_cpus),
            "GPU": float(plan.segmenter_gpus),
        }
        self._resources, self._now = resources, now
        self._told: Mapping[str, float] | None = None
        self._changed: Mapping[str, float] = {}
        self._since = 0.0
        self._is_waiting = False

    def check(self) -> None:
        """Say what has changed and stayed so, once."""
        resources = self._resources()
        there = {kind: resources.get(kind, 0.0) for kind in self._kinds}
        if there != self._changed:
            self._changed, self._since = there, self._now()
        is_new = self._told is None
        if not is_new and self._now() - self._since < _SETTLED_SECONDS:
            return
        before, self._told = self._told or there, there
        if not all(there[kind] >= self._needed[kind] for kind in self._kinds):
            if not self._is_waiting:
                say(
                    f"the cluster has {_listed(there)}: too little for a worker; waiting for machines to join, "
                    "or stop this run: the same command continues"
                )
            self._is_waiting = True
        elif self._is_waiting or any(there[kind] > before[kind] for kind in self._kinds):
            self._is_waiting = False
            say(f"machines have joined: the cluster has {_listed(there)}, {_listed(before)} before")
        elif there != before:
            say(f"machines are gone: the cluster has {_listed(there)}, {_listed(before)} before; the run goes on")


def _listed(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {kind}" for kind, amount in resources.items())
