"""How many workers a cluster has room for, and what each of them gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import RunError


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one worker gets: whole cores, and a GPU or none."""

    cpus: int
    gpu: bool


def share_of(nodes: Sequence[Mapping[str, float]], low: int, high: int) -> Share:
    """A GPU and a core for each worker where the cluster has GPUs; else all get the same number of cores, as many as
    let `high` of them fit.

    Args:
        nodes: the resources of each machine, as Ray names them: CPU and GPU.
        low: the fewest workers.
        high: the most workers.

    Raises:
        RunError: not even `low` workers fit; Ray would wait for ever.
    """
    gpu = any(node.get("GPU", 0) >= 1 for node in nodes)
    kind = "GPU" if gpu else "CPU"
    most = 1 if gpu else int(max(node.get("CPU", 0) for node in nodes))
    cpus = next((n for n in range(most, 1, -1) if _room(nodes, kind, n) >= high), 1)
    if _room(nodes, kind, cpus) < low:
        raise RunError(
            f"{low} workers need a {kind} each, and the cluster has {_room(nodes, kind, 1)}: "
            "give fewer workers, or add machines"
        )
    return Share(cpus=cpus, gpu=gpu)


def _room(nodes: Sequence[Mapping[str, float]], kind: str, each: int) -> int:
    return sum(int(node.get(kind, 0) // each) for node in nodes)
