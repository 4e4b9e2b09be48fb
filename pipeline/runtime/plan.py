"""The plan: how many actors of which size fit into what the cluster has free."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.errors import RunError
from pipeline.refine import RefineDevice

GIB = 1024**3
_SEGMENTER_MEMORY = 2 * GIB

GPU_BATCH, CPU_BATCH = 256, 32
"""Images that an actor takes at once at most: on a GPU, and on a core. Each call costs the driver milliseconds."""

_GPU_BATCH_LEAST, _CPU_BATCH_LEAST = 16, 4
_BATCH_BYTES = 64 * 1024**2
_BATCHES = 8
"""Batches that each worker has of a small run: the first masks come early, and all workers end together."""

_WORTH_AN_ACTOR = 32
"""Images for which another actor is started: its start takes a core for seconds, the time of about as many images."""

_WORTH_A_FETCHER = 64
"""Images for which another task fetches at the same time: its process takes two seconds of a core to start."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """Describe one machine of the cluster: CPU and GPU counts as Ray has them, memory in bytes."""

    cpus: float
    gpus: float
    memory: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say how many actors segment and refine, and what each holds.

    A segmenter takes `segmenter_batch` images at once, a refiner `refiner_batch`. Where `gpus_refine`, a segmenter
    refines on its GPU what the refiners on CPUs cannot take, or, without refiners, all. Fetching and writing wait for
    the network and hold no CPU.
    """

    segmenters: int
    segmenter_cpus: float
    segmenter_gpus: int
    segmenter_batch: int
    gpus_refine: bool
    refiners: int
    refiner_cpus: float
    refiner_batch: int = CPU_BATCH
    fetchers: int

    def for_images(self, count: int, mean_bytes: int = 0) -> "Plan":
        """Suit the plan to `count` images: no actor that is not worth its start, no batch beyond a worker's memory.

        Args:
            count: images to do.
            mean_bytes: of one image, encoded; 0 where it is not known.
        """
        worth = math.ceil(count / _WORTH_AN_ACTOR)
        segmenters, refiners = min(self.segmenters, worth), min(self.refiners, worth)
        fitting = max(1, _BATCH_BYTES // max(mean_bytes, 1))
        least = _GPU_BATCH_LEAST if self.segmenter_gpus else _CPU_BATCH_LEAST
        return replace(
            self,
            segmenters=segmenters,
            segmenter_batch=min(self.segmenter_batch, max(least, _share(count, segmenters)), fitting),
            refiners=refiners,
            refiner_batch=min(self.refiner_batch, max(_CPU_BATCH_LEAST, _share(count, refiners)), fitting),
            fetchers=min(self.fetchers, math.ceil(count / _WORTH_A_FETCHER)),
        )

    def __str__(self) -> str:
        device = f"{self.segmenter_gpus} GPU + " if self.segmenter_gpus else ""
        refining = f"{self.refiners} refining ({self.refiner_cpus:g} CPU each)"
        if self.gpus_refine:
            refining = f"{refining} what they can, the GPUs the rest" if self.refiners else "refining on their GPUs"
        return (
            f"{self.segmenters} segmenting ({device}{self.segmenter_cpus:g} CPU each), {refining}, "
            f"{self.fetchers} fetching at once"
        )


def _share(count: int, workers: int) -> int:
    return math.ceil(count / (_BATCHES * max(workers, 1)))


def plan(nodes: Sequence[Node], refiner_memory: int, refine_on: RefineDevice = "cpu") -> Plan:
    """Fit actors that segment and actors that refine onto `nodes` so that all of them start.

    With GPUs: a segmenter on each, one CPU for its decoding, and a refiner on every CPU that is left, or none where the
    segmenters alone are to refine. Without: half a CPU for each of a segmenter and a refiner per core, so that the
    cores work on whichever is behind.

    Args:
        nodes: the free part of each machine.
        refiner_memory: bytes that an actor that refines takes at its peak; see Refiner.memory.
        refine_on: cuda, cpu, or auto: on CPUs, and on GPUs what these leave.

    Raises:
        RunError: the cluster has no CPU free, too little for one of each, or no GPU where one is asked for.
    """
    gpus = sum(math.floor(node.gpus) for node in nodes)
    if not gpus:
        if refine_on == "cuda":
            raise RunError("refine.device is cuda, and the cluster has no GPU free; start GPU workers, or use cpu")
        return _without_gpus(nodes, refiner_memory)
    if refine_on == "cuda":
        return _gpus_alone(nodes)
    return _with_gpus(nodes, refiner_memory, gpus_refine=refine_on == "auto")


def _without_gpus(nodes: Sequence[Node], memory: int) -> Plan:
    needed = _SEGMENTER_MEMORY + memory
    pairs = sum(min(math.floor(node.cpus), math.floor(node.memory / needed)) for node in nodes)
    if pairs == 0:
        offered = ", ".join(f"{node.cpus:g} CPU / {node.memory / GIB:.1f} GiB" for node in nodes) or "no node"
        raise RunError(
            "the cluster cannot hold an actor that segments and one that refines: "
            f"{offered} free, 1 CPU / {needed / GIB:.1f} GiB needed"
        )
    return Plan(
        segmenters=pairs,
        segmenter_cpus=0.5,
        segmenter_gpus=0,
        segmenter_batch=CPU_BATCH,
        gpus_refine=False,
        refiners=pairs,
        refiner_cpus=0.5,
        fetchers=1 + pairs,
    )


def _gpus_alone(nodes: Sequence[Node]) -> Plan:
    gpu_nodes = [node for node in nodes if node.gpus >= 1]
    segmenters = sum(math.floor(node.gpus) for node in gpu_nodes)
    segmenter_cpus = _floor2(min(1.0, *(node.cpus / math.floor(node.gpus) for node in gpu_nodes)))
    if segmenter_cpus <= 0:
        raise RunError(f"{segmenters} GPUs but a machine of theirs has no CPU free; wait until other jobs end")
    return Plan(
        segmenters=segmenters,
        segmenter_cpus=segmenter_cpus,
        segmenter_gpus=1,
        segmenter_batch=GPU_BATCH,
        gpus_refine=True,
        refiners=0,
        refiner_cpus=0,
        fetchers=1 + 2 * segmenters,
    )


def _with_gpus(nodes: Sequence[Node], memory: int, gpus_refine: bool) -> Plan:
    gpu_nodes = [node for node in nodes if node.gpus >= 1]
    segmenters = sum(math.floor(node.gpus) for node in gpu_nodes)
    # at most half of a GPU machine's CPUs go to its segmenters where only the others refine
    most = 1.0 if gpus_refine else 0.5
    segmenter_cpus = _floor2(min(1.0, *(most * node.cpus / math.floor(node.gpus) for node in gpu_nodes)))
    left = [node.cpus - segmenter_cpus * math.floor(node.gpus) for node in nodes]
    memory_left = [node.memory - _SEGMENTER_MEMORY * math.floor(node.gpus) for node in nodes]
    refiners = sum(
        max(0, min(math.floor(cpus), math.floor(free / memory))) for cpus, free in zip(left, memory_left, strict=True)
    )
    if gpus_refine and not refiners:
        return _gpus_alone(nodes)
    refiner_cpus = 1.0 if refiners else _floor2(max(left))
    if refiner_cpus <= 0:
        raise RunError(
            f"{segmenters} GPUs but no CPU is free for refinement; start CPU workers, or wait until other jobs end"
        )
    return Plan(
        segmenters=segmenters,
        segmenter_cpus=segmenter_cpus,
        segmenter_gpus=1,
        segmenter_batch=GPU_BATCH,
        gpus_refine=gpus_refine,
        refiners=max(refiners, 1),
        refiner_cpus=refiner_cpus,
        fetchers=1 + 2 * segmenters,
    )


def _floor2(value: float) -> float:
    """Round down to hundredths: rounding up could ask for more than there is."""
    return math.floor(value * 100) / 100
