"""How many actors of which size: the plan, computed from what the cluster has free."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.errors import RunError

GIB = 1024**3
_SEGMENTER_MEMORY = 2 * GIB
_REFINER_MEMORY = GIB


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one machine of the cluster has: CPU and GPU counts as Ray knows them, memory in bytes."""

    cpus: float
    gpus: float
    memory: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The actors of a run, and what each holds. Fetching and writing wait for the network and hold no CPU."""

    segmenters: int
    segmenter_cpus: float
    segmenter_gpus: int
    refiners: int
    refiner_cpus: float
    fetchers: int

    def for_images(self, count: int) -> "Plan":
        """The same plan without actors that `count` images cannot keep busy."""
        return replace(self, segmenters=min(self.segmenters, count), refiners=min(self.refiners, count))

    def __str__(self) -> str:
        device = f"{self.segmenter_gpus} GPU + " if self.segmenter_gpus else ""
        return (
            f"{self.segmenters} Segmenter{'s' * (self.segmenters != 1)} ({device}{self.segmenter_cpus:g} CPU each), "
            f"{self.refiners} Refiner{'s' * (self.refiners != 1)} ({self.refiner_cpus:g} CPU each), "
            f"{self.fetchers} fetching at once"
        )


def plan(nodes: Sequence[Node]) -> Plan:
    """Fit Segmenters and Refiners onto `nodes` so that all of them start.

    With GPUs: a Segmenter on each, one CPU for its decoding, and a Refiner on every CPU that is left. Without: half a
    CPU for each of a Segmenter and a Refiner per core, so that the cores work on whichever is behind.

    Raises:
        RunError: the cluster has no CPU free, or no room for one of each.
    """
    gpus = sum(math.floor(node.gpus) for node in nodes)
    return _with_gpus(nodes) if gpus else _without_gpus(nodes)


def _without_gpus(nodes: Sequence[Node]) -> Plan:
    pairs = sum(_pairs(node) for node in nodes)
    if pairs == 0:
        offered = ", ".join(f"{node.cpus:g} CPU / {node.memory / GIB:.1f} GiB" for node in nodes) or "no node"
        needed = (_SEGMENTER_MEMORY + _REFINER_MEMORY) / GIB
        raise RunError(
            f"the cluster cannot hold a Segmenter and a Refiner: free are {offered}, needed 1 CPU / {needed:g} GiB"
        )
    return Plan(
        segmenters=pairs, segmenter_cpus=0.5, segmenter_gpus=0, refiners=pairs, refiner_cpus=0.5, fetchers=1 + pairs
    )


def _pairs(node: Node) -> int:
    return min(math.floor(node.cpus), math.floor(node.memory / (_SEGMENTER_MEMORY + _REFINER_MEMORY)))


def _with_gpus(nodes: Sequence[Node]) -> Plan:
    gpu_nodes = [node for node in nodes if node.gpus >= 1]
    segmenters = sum(math.floor(node.gpus) for node in gpu_nodes)
    # at most half of a GPU machine's CPUs go to its Segmenters, so that a small one still refines
    segmenter_cpus = _floor2(min(1.0, *(node.cpus / (2 * math.floor(node.gpus)) for node in gpu_nodes)))
    left = [node.cpus - segmenter_cpus * math.floor(node.gpus) for node in nodes]
    room = [node.memory - _SEGMENTER_MEMORY * math.floor(node.gpus) for node in nodes]
    refiners = sum(
        max(0, min(math.floor(cpus), math.floor(memory / _REFINER_MEMORY)))
        for cpus, memory in zip(left, room, strict=True)
    )
    refiner_cpus = 1.0 if refiners else _floor2(max(left))
    if refiner_cpus <= 0:
        raise RunError(
            f"{segmenters} GPUs but no CPU is free for refinement; start CPU workers, or wait until other jobs end"
        )
    return Plan(
        segmenters=segmenters,
        segmenter_cpus=segmenter_cpus,
        segmenter_gpus=1,
        refiners=max(refiners, 1),
        refiner_cpus=refiner_cpus,
        fetchers=1 + 2 * segmenters,
    )


def _floor2(value: float) -> float:
    """Down to hundredths: rounding up could ask for more than there is."""
    return math.floor(value * 100) / 100
