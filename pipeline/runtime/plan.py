"""The plan: how many actors of which size fit into what the cluster has free, and how many there may be later."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.errors import ConfigError, RunError
from pipeline.refine import RefineDevice

GIB = 1024**3
_SEGMENTER_MEMORY = 2 * GIB

GPU_BATCH, SHARED_BATCH, REFINER_BATCH, CPU_BATCH = 1024, 256, 256, 32
"""Images that an actor takes at once at most: a GPU; a GPU that leaves a part of the refinement to cores, for which it
waits at the end; a core that refines all that GPUs have segmented; any other core. Each call costs the driver
milliseconds.
"""

_GPU_BATCH_LEAST, _CPU_BATCH_LEAST = 16, 4
_BATCH_BYTES, _LOGITS_BATCH_BYTES = 64 * 1024**2, 256 * 1024**2
"""Of a batch that is read at once, and of one with the logits that a segmenter holds until it hands it on."""

ASSUMED_BYTES = 1024**2
"""Of an image, encoded, where nothing tells: a photograph has a few of them."""

_UNKNOWN_PARCEL = 16
"""Images that travel together where nothing tells of their bytes; several of these make a batch."""

_BATCHES = 8
"""Batches that each worker has of a small run: the first masks come early, and all workers end together."""

_WORTH_AN_ACTOR = 32
"""Images for which another actor is started: its start takes a core for seconds, the time of about as many images."""

_WORTH_A_FETCHER = 64
"""Images for which another task fetches at the same time: its process takes two seconds of a core to start."""

_UNLIMITED = 10**6
"""Actors that no cluster has; an image count bounds them further."""

_GROWTH = 4
"""Times as many actors as at first that fetchers and batches are made for, where no limit tells how many may be."""


@dataclass(frozen=True, kw_only=True)
class WorkerLimits:
    """Bound what a run uses of its cluster, and ask for what is not there yet.

    Args:
        gpus: most GPUs; with a number, those that the cluster lacks are asked of its autoscaler; 0: the network runs on
            CPUs, though there are GPUs.
        cpus: most CPUs for network and refinement; with a number, those that the cluster lacks are asked for as well.
    """

    gpus: int | None = None
    cpus: int | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for a limit under which nothing can run."""
        if self.gpus is not None and self.gpus < 0:
            raise ConfigError(f"workers.gpus is {self.gpus}; give the most GPUs to use, 0 for none, or leave it out")
        if self.cpus is not None and self.cpus < 1:
            raise ConfigError(f"workers.cpus is {self.cpus}; give the most CPUs to use, at least 1, or leave it out")


@dataclass(frozen=True, kw_only=True)
class Node:
    """Describe one machine of the cluster: CPU and GPU counts as Ray has them, memory in bytes."""

    cpus: float
    gpus: float
    memory: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say how many actors segment and refine, at first and at most, and what each holds.

    A segmenter takes `segmenter_batch` images at once, of which `parcel` are fetched together; a refiner takes
    `refiner_batch`. Where `gpus_refine`, a segmenter refines on its GPU what the refiners on CPUs cannot take, or,
    without refiners, all. Fetching and writing wait for the network and hold no CPU. Memory, in bytes, is reserved, so
    that no machine gets more actors than it can hold.
    """

    segmenters: int
    most_segmenters: int
    segmenter_cpus: float
    segmenter_gpus: int
    segmenter_memory: int = _SEGMENTER_MEMORY
    segmenter_batch: int
    parcel: int = _UNKNOWN_PARCEL
    gpus_refine: bool
    refiners: int
    most_refiners: int
    refiner_cpus: float
    refiner_memory: int = 0
    refiner_batch: int = CPU_BATCH
    fetchers: int

    def for_images(self, count: int, mean_bytes: int = 0, logits_bytes: int = 0, chunk: int | None = None) -> "Plan":
        """Suit the plan to `count` images: no actor that is not worth its start, no batch beyond a worker's memory.

        Args:
            count: images to do.
            mean_bytes: of one image, encoded; 0 where it is not known.
            logits_bytes: of its logits; of an image of ASSUMED_BYTES where its own are not known.
            chunk: images that one task fetches at most; None for any number.
        """
        worth = math.ceil(count / _WORTH_AN_ACTOR)
        segmenters, refiners = min(self.segmenters, worth), min(self.refiners, worth)
        most_segmenters, most_refiners = min(self.most_segmenters, worth), min(self.most_refiners, worth)
        segmenting, refining = min(most_segmenters, _GROWTH * segmenters), min(most_refiners, _GROWTH * refiners)
        size = mean_bytes or ASSUMED_BYTES
        refinable = max(1, _BATCH_BYTES // (size + logits_bytes))
        handed_on = logits_bytes if refiners else 0  # perhaps of all: the CPUs may be behind with none
        fitting = max(1, min(_BATCH_BYTES // size, _LOGITS_BATCH_BYTES // (size + handed_on)))
        least = _GPU_BATCH_LEAST if self.segmenter_gpus else _CPU_BATCH_LEAST
        batch = min(self.segmenter_batch, max(least, _share(count, segmenting)), fitting)
        return replace(
            self,
            segmenters=segmenters,
            most_segmenters=most_segmenters,
            segmenter_batch=batch,
            parcel=min(batch, chunk or batch, batch if mean_bytes else _UNKNOWN_PARCEL),
            refiners=refiners,
            most_refiners=most_refiners,
            refiner_batch=min(self.refiner_batch, max(_CPU_BATCH_LEAST, _share(count, refining)), refinable),
            fetchers=min(self.fetchers, math.ceil(count / _WORTH_A_FETCHER)),
        )

    @property
    def is_elastic(self) -> bool:
        """Tell whether there may be more actors later than at first."""
        return self.most_segmenters > self.segmenters or self.most_refiners > self.refiners

    def __str__(self) -> str:
        device = f"{self.segmenter_gpus} GPU + " if self.segmenter_gpus else ""
        refining = f"{self.refiners} refining ({self.refiner_cpus:g} CPU each)"
        if self.gpus_refine:
            refining = f"{refining} what they can, the GPUs the rest" if self.refiners else "refining on their GPUs"
        later = f"; later at most {self.most_segmenters} and {self.most_refiners}" if self.is_elastic else ""
        return (
            f"{self.segmenters} segmenting ({device}{self.segmenter_cpus:g} CPU each), {refining}, "
            f"{self.fetchers} fetching at once{later}"
        )


def _share(count: int, workers: int) -> int:
    return math.ceil(count / (_BATCHES * max(workers, 1)))


def plan(
    nodes: Sequence[Node],
    refiner_memory: int,
    refine_on: RefineDevice = "cpu",
    limits: WorkerLimits | None = None,
    grows: bool = False,
) -> Plan:
    """Fit actors that segment and actors that refine onto `nodes` so that all of them start.

    With GPUs: a segmenter on each, one CPU for its decoding, and a refiner on every CPU that is left, or none where the
    segmenters alone are to refine. Without: half a CPU for each of a segmenter and a refiner per core, so that the
    cores work on whichever is behind. What `limits` ask for beyond what is there counts as there for a first actor.

    Args:
        nodes: the free part of each machine.
        refiner_memory: bytes that an actor that refines takes at its peak; see Refiner.memory.
        refine_on: cuda, cpu, or auto: on CPUs, and on GPUs what these leave.
        limits: of the run; without, all that is there.
        grows: whether machines may join later.

    Raises:
        RunError: the cluster has no CPU free, too little for one of each, or no GPU where one is asked for.
    """
    limits = limits or WorkerLimits()
    if limits.gpus == 0:
        nodes = [replace(node, gpus=0) for node in nodes]
    nodes = _with_memory(nodes)
    gpus = _gpus(nodes) or (limits.gpus if grows else 0)
    if limits.gpus and not gpus:
        raise RunError(
            f"workers.gpus is {limits.gpus}, and the run's own cluster, which has no GPU free, cannot grow; name a "
            "cluster by RAY_ADDRESS, or leave workers.gpus out"
        )
    if not gpus and refine_on == "cuda":
        raise RunError(
            "refine.device is cuda, and the cluster has no GPU free; start GPU workers, ask for some with "
            "--workers.gpus, or use cpu"
        )
    if not gpus:
        return _without_gpus(nodes, refiner_memory, limits, grows)
    if refine_on == "cuda":
        return _gpus_alone(nodes, refiner_memory, limits, grows)
    return _with_gpus(nodes, refiner_memory, limits, grows, gpus_refine=refine_on == "auto")


def _with_memory(nodes: Sequence[Node]) -> list[Node]:
    """Count of each machine's GPUs those whose segmenters fit into its memory. Raises RunError where none does."""
    usable = [replace(node, gpus=min(node.gpus, node.memory // _SEGMENTER_MEMORY)) for node in nodes]
    if _gpus(nodes) and not _gpus(usable):
        most = max(node.memory for node in nodes if node.gpus >= 1)
        raise RunError(
            f"a machine with GPUs has {most / GIB:.1f} GiB of memory free at most, and the network of each GPU takes "
            f"{_SEGMENTER_MEMORY / GIB:.1f} GiB; give its Ray node more, or run on CPUs with --workers.gpus 0"
        )
    return usable


def _without_gpus(nodes: Sequence[Node], memory: int, limits: WorkerLimits, grows: bool) -> Plan:
    needed = _SEGMENTER_MEMORY + memory
    fitting = sum(min(math.floor(node.cpus), math.floor(node.memory / needed)) for node in nodes)
    if fitting == 0 and not (limits.cpus and grows):
        offered = ", ".join(f"{node.cpus:g} CPU / {node.memory / GIB:.1f} GiB" for node in nodes) or "no node"
        raise RunError(
            "the cluster cannot hold an actor that segments and one that refines: "
            f"{offered} free, 1 CPU / {needed / GIB:.1f} GiB needed; start workers, or ask for some with "
            "--workers.cpus or --workers.gpus"
        )
    pairs, most = _bounded(fitting, limits.cpus, grows)
    return Plan(
        segmenters=pairs,
        most_segmenters=most,
        segmenter_cpus=0.5,
        segmenter_gpus=0,
        segmenter_batch=CPU_BATCH,
        gpus_refine=False,
        refiners=pairs,
        most_refiners=most,
        refiner_cpus=0.5,
        refiner_memory=memory,
        fetchers=1 + _fed(pairs, most, limits.cpus),
    )


def _gpus_alone(nodes: Sequence[Node], memory: int, limits: WorkerLimits, grows: bool) -> Plan:
    with_cpus = [node for node in nodes if node.cpus > 0]
    segmenters, most = _bounded(_gpus(with_cpus), limits.gpus, grows)
    segmenter_cpus = _floor2(min([1.0, *_cpus_of_a_gpu(with_cpus), *_allowed(limits, segmenters)]))
    if (_gpus(nodes) and not _gpus(with_cpus)) or segmenter_cpus <= 0:
        raise RunError(f"{_gpus(nodes)} GPUs but no CPU of their machines is free; wait until other jobs end")
    if limits.cpus is not None:
        most = min(most, math.floor(limits.cpus / segmenter_cpus))
    return Plan(
        segmenters=segmenters,
        most_segmenters=most,
        segmenter_cpus=segmenter_cpus,
        segmenter_gpus=1,
        segmenter_batch=GPU_BATCH,
        gpus_refine=True,
        refiners=0,
        most_refiners=0,
        refiner_cpus=0,
        refiner_memory=memory,
        fetchers=1 + 2 * _fed(segmenters, most, limits.gpus),
    )


def _with_gpus(nodes: Sequence[Node], memory: int, limits: WorkerLimits, grows: bool, gpus_refine: bool) -> Plan:
    segmenters, most_segmenters = _bounded(_gpus(nodes), limits.gpus, grows)
    # at most half of a GPU machine's CPUs go to its segmenters where only the others refine
    share = 1.0 if gpus_refine else 0.5
    cpus_of_a_gpu = [*_cpus_of_a_gpu(nodes), *_allowed(limits, segmenters)]
    segmenter_cpus = _floor2(min([1.0, *(share * cpus for cpus in cpus_of_a_gpu)]))
    taken = [min(math.floor(node.gpus), segmenters) for node in nodes]  # of fewer than all it is not known which
    left = [node.cpus - segmenter_cpus * gpus for node, gpus in zip(nodes, taken, strict=True)]
    memory_left = [node.memory - _SEGMENTER_MEMORY * gpus for node, gpus in zip(nodes, taken, strict=True)]
    fitting = sum(
        max(0, min(math.floor(cpus), math.floor(free / memory))) for cpus, free in zip(left, memory_left, strict=True)
    )
    are_asked_for = grows and limits.cpus is not None
    if not fitting and gpus_refine and not are_asked_for:
        return _gpus_alone(nodes, memory, limits, grows)
    parts = [cpus for cpus, free in zip(left, memory_left, strict=True) if free >= memory]
    refiner_cpus = 1.0 if fitting or are_asked_for else _floor2(max(parts, default=0.0))
    if refiner_cpus <= 0:
        raise RunError(
            f"{segmenters} GPUs but no CPU with {memory / GIB:.1f} GiB of memory is free for refinement; start CPU "
            "workers, ask for some with --workers.cpus, or wait until other jobs end"
        )
    rest = None if limits.cpus is None else limits.cpus - segmenter_cpus * (limits.gpus or segmenters)
    if rest is not None and limits.gpus is None:
        most_segmenters = segmenters  # those of machines that join would take more
    if rest is not None and rest < 1 and gpus_refine:
        return _gpus_alone(nodes, memory, limits, grows)
    refiner_cpus = refiner_cpus if rest is None else min(refiner_cpus, _floor2(rest))
    refiners, most_refiners = _bounded(fitting, None if rest is None else max(1, math.floor(rest)), grows)
    return Plan(
        segmenters=segmenters,
        most_segmenters=most_segmenters,
        segmenter_cpus=segmenter_cpus,
        segmenter_gpus=1,
        segmenter_batch=SHARED_BATCH if gpus_refine else GPU_BATCH,
        gpus_refine=gpus_refine,
        refiners=refiners,
        most_refiners=most_refiners,
        refiner_cpus=refiner_cpus,
        refiner_memory=memory,
        refiner_batch=CPU_BATCH if gpus_refine else REFINER_BATCH,
        fetchers=1 + 2 * _fed(segmenters, most_segmenters, limits.gpus),
    )


def _allowed(limits: WorkerLimits, segmenters: int) -> list[float]:
    """Give the CPUs that a segmenter may have where a run's CPUs are limited."""
    return [] if limits.cpus is None else [limits.cpus / (limits.gpus or segmenters)]


def _gpus(nodes: Sequence[Node]) -> int:
    return sum(math.floor(node.gpus) for node in nodes)


def _cpus_of_a_gpu(nodes: Sequence[Node]) -> list[float]:
    """Give the CPUs that each machine with GPUs has for one of them."""
    return [node.cpus / math.floor(node.gpus) for node in nodes if node.gpus >= 1]


def _bounded(fitting: int, limit: int | None, grows: bool) -> tuple[int, int]:
    """Give the actors of a kind at first and at most: one at first at least, though its machine is yet to come."""
    most = _UNLIMITED if limit is None else limit
    first = max(1, min(fitting, most))
    return first, max(first, most) if grows else first


def _fed(first: int, most: int, limit: int | None) -> int:
    """Give how many actors are to be fed: as many as there may be, where a limit tells how many that is."""
    return min(most, _GROWTH * first) if limit is None else most


def _floor2(value: float) -> float:
    """Round down to hundredths: rounding up could ask for more than there is."""
    return math.floor(value * 100) / 100
