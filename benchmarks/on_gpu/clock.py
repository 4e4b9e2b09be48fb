"""Time work on a device: by events on a GPU, which run beside the host, by the wall clock on a CPU."""

import itertools
import time
from collections.abc import Callable

import torch

Work = Callable[[int], object]
"""Does one repetition, of the number given, so that it can take another input each time."""


def milliseconds(work: Work, device: torch.device, repetitions: int, warm_up: int = 2) -> list[float]:
    """Measure each repetition of some work, one after the other, after some that are not counted.

    Returns:
        milliseconds by repetition: on a GPU between the device's own time stamps, so that a host which is ahead does
        not count.
    """
    for number in range(warm_up):
        work(number)
    if device.type != "cuda":
        return [_wall_milliseconds(work, number) for number in range(repetitions)]
    stamps = [torch.cuda.Event(enable_timing=True) for _ in range(repetitions + 1)]  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    stamps[0].record()
    for number, stamp in enumerate(stamps[1:]):
        work(number)
        stamp.record()
    torch.cuda.synchronize(device)
    return [before.elapsed_time(after) for before, after in itertools.pairwise(stamps)]


def peak_mebibytes(device: torch.device) -> float:
    """Give the most memory of a GPU that tensors took since the last call, in MiB, 0 for a CPU; starts anew."""
    if device.type != "cuda":
        return 0.0
    peak = torch.cuda.max_memory_allocated(device) / 2**20
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def _wall_milliseconds(work: Work, number: int) -> float:
    started = time.perf_counter()
    work(number)
    return 1e3 * (time.perf_counter() - started)
