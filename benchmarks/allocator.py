"""What it saves a network on a CPU core that its process keeps freed memory: `python -m benchmarks.allocator`.

Processes that keep it and processes that do not take turns over the same pictures, of one size and of many, each after
a first round. Prints one table: core milliseconds a picture, median, least and most of the processes; and of each
median the kernel's part of them, page faults a picture, and MiB in memory at the peak and at the end. Linux only.
"""

import multiprocessing
import resource
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks.crf_pictures import photographs, resized
from benchmarks.table import markdown, number
from pipeline import models
from pipeline.cli import parse
from pipeline.errors import ConfigError, PipelineError
from pipeline.models import Inference, Predictor
from pipeline.runtime.allocator import keep_freed_memory

SIZES = {
    "one size": ((500, 375),),
    "many sizes": ((500, 375), (320, 240), (1024, 768), (233, 517), (800, 600), (411, 399), (640, 480), (1000, 1000)),
}
"""Width and height of the pictures."""

COLUMNS = ("pictures, memory", "core ms", "min", "max", "of the kernel", "page faults", "MiB, peak", "MiB, end")


@dataclass(frozen=True, kw_only=True)
class AllocatorBenchmark:
    """Measure a network on one CPU core with freed memory kept and given back.

    Args:
        model: a name or the URI of a file.
        turns: processes of each kind.
        rounds: over all pictures, in each process, after a first one.
    """

    model: str = "scenes"
    turns: int = 3
    rounds: int = 4

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if min(self.turns, self.rounds) < 1:
            raise ConfigError(f"turns {self.turns} and rounds {self.rounds} must be at least 1")


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(AllocatorBenchmark, "A network on a CPU core with freed memory kept and given back.", argv)
        print(markdown(COLUMNS, [row for sizes in SIZES for row in rows(config, sizes)]))
    except PipelineError as error:
        print(f"allocator: {error}", file=sys.stderr)
        return 1
    return 0


def rows(config: AllocatorBenchmark, sizes: str) -> list[tuple[str, ...]]:
    """Measure a row for each kind of process."""
    measured: dict[bool, list[Sequence[float]]] = {False: [], True: []}
    for _ in range(config.turns):
        for keeps, turns in measured.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
                turns.append(apart.submit(turn, config, sizes, keeps).result())
    return [_row(f"{sizes}, {'kept' if keeps else 'given back'}", turns) for keeps, turns in measured.items()]


def turn(config: AllocatorBenchmark, sizes: str, keeps: bool) -> tuple[float, ...]:
    """Run the network in this process, which is new; returns the figures of a row."""
    torch.set_num_threads(1)
    if keeps:
        keep_freed_memory()
    predictor = Predictor(models.load(config.model), Inference(), "cpu")
    pictures = [resized(photographs()["china"], height, width) for width, height in SIZES[sizes]]
    for picture in pictures:
        predictor.download(predictor.compute(predictor.upload([picture])))
    before = resource.getrusage(resource.RUSAGE_SELF)
    for picture in pictures * config.rounds:
        predictor.download(predictor.compute(predictor.upload([picture])))
    after = resource.getrusage(resource.RUSAGE_SELF)
    count = len(pictures) * config.rounds
    kernel = 1e3 * (after.ru_stime - before.ru_stime) / count
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return (
        1e3 * (after.ru_utime - before.ru_utime) / count + kernel,
        kernel,
        (after.ru_minflt - before.ru_minflt) / count,
        after.ru_maxrss / 1024,
        pages * resource.getpagesize() / 2**20,
    )


def _row(what: str, turns: Sequence[Sequence[float]]) -> tuple[str, ...]:
    core, *others = zip(*turns, strict=True)
    return (what, *(number(value) for value in (median(core), min(core), max(core), *map(median, others))))


if __name__ == "__main__":
    sys.exit(main())
