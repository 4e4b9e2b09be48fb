"""The workers' shares of a cluster, and whether all of them fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import RunError


@dataclass(frozen=True, kw_only=True)
class Share:
    """The share of one worker: whole cores, and a GPU or none."""

    cpus: int
    gpu: bool

    def __str__(self) -> str:
        return f"{'1 GPU + ' if self.gpu else ''}{self.cpus} CPU each"


def share_of(free: Sequence[Mapping[str, float]], low: int, high: int, *, gpu: bool) -> Share:
    """Give each worker a GPU and a core, or all the same number of cores, as many as let `high` of them fit.

    Args:
        free: what each machine has free, as Ray names it: CPU and GPU.
        low: the fewest workers.
        high: the most workers.
        gpu: whether the cluster has GPUs, free or not.

    Raises:
        RunError: not even `low` workers fit; Ray would wait for ever.
    """
    most = 1 if gpu else int(max((node.get("CPU", 0) for node in free), default=0))
    cpus = next((n for n in range(most, 1, -1) if _fitting(free, n, gpu) >= high), 1)
    if _fitting(free, cpus, gpu) < low:
        has = ", ".join(f"{node.get('CPU', 0):g} CPU / {node.get('GPU', 0):g} GPU" for node in free) or "no node"
        raise RunError(
            f"{low} workers need a CPU{' and a GPU' if gpu else ''} each, and the cluster has {has} free: "
            "wait until other jobs end, give fewer workers, or add machines"
        )
    return Share(cpus=cpus, gpu=gpu)


def _fitting(free: Sequence[Mapping[str, float]], cpus: int, gpu: bool) -> int:
    """Count the workers that fit."""
    by_cpu = [int(node.get("CPU", 0) // cpus) for node in free]
    return sum(min(n, int(node.get("GPU", 0))) if gpu else n for n, node in zip(by_cpu, free, strict=True))
