"""How many actors of which size: the plan, computed from what the cluster has free."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.crf.refine import tile_side
from pipeline.errors import RunError

GIB = 1024**3
_SEGMENTER_MEMORY = 2 * GIB
_REFINER_PROCESS_MEMORY = GIB // 4
_REFINER_TILE_FACTOR = 10
"""Peak memory of the CRF on photographs, in multiples of a tile's probabilities."""


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


def refiner_memory(labels: int) -> int:
    """Bytes that a Refiner needs at its peak: itself, and the CRF on one tile of so many labels."""
    return _REFINER_PROCESS_MEMORY + _REFINER_TILE_FACTOR * 4 * labels * tile_side(labels) ** 2


def plan(nodes: Sequence[Node], labels: int) -> Plan:
    """Fit Segmenters and Refiners for masks of `labels` classes onto `nodes` so that all of them start.

    With GPUs: a Segmenter on each, one CPU for its decoding, and a Refiner on every CPU that is left. Without: half a
    CPU for each of a Segmenter and a Refiner per core, so that the cores work on whichever is behind.

    Raises:
        RunError: the cluster has no CPU free, or no room for one of each.
    """
    gpus = sum(math.floor(node.gpus) for node in nodes)
    return _with_gpus(nodes, refiner_memory(labels)) if gpus else _without_gpus(nodes, refiner_memory(labels))


def _without_gpus(nodes: Sequence[Node], memory: int) -> Plan:
    needed = _SEGMENTER_MEMORY + memory
    pairs = sum(min(math.floor(node.cpus), math.floor(node.memory / needed)) for node in nodes)
    if pairs == 0:
        offered = ", ".join(f"{node.cpus:g} CPU / {node.memory / GIB:.1f} GiB" for node in nodes) or "no node"
        raise RunError(
            f"the cluster cannot hold a Segmenter and a Refiner: {offered} free, 1 CPU / {needed / GIB:.1f} GiB needed"
        )
    return Plan(
        segmenters=pairs, segmenter_cpus=0.5, segmenter_gpus=0, refiners=pairs, refiner_cpus=0.5, fetchers=1 + pairs
    )


def _with_gpus(nodes: Sequence[Node], memory: int) -> Plan:
    gpu_nodes = [node for node in nodes if node.gpus >= 1]
    segmenters = sum(math.floor(node.gpus) for node in gpu_nodes)
    # at most half of a GPU machine's CPUs go to its Segmenters, so that a small one still refines
    segmenter_cpus = _floor2(min(1.0, *(node.cpus / (2 * math.floor(node.gpus)) for node in gpu_nodes)))
    left = [node.cpus - segmenter_cpus * math.floor(node.gpus) for node in nodes]
    room = [node.memory - _SEGMENTER_MEMORY * math.floor(node.gpus) for node in nodes]
    refiners = sum(
        max(0, min(math.floor(cpus), math.floor(free / memory))) for cpus, free in zip(left, room, strict=True)
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
