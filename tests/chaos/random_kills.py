"""Many kills at random: `make chaos`, or `python -m tests.chaos.random_kills --seed 1`.

Each run of the job loses its driver, its Segmenters, its Refiners and whatever else works for it to SIGKILL, at random
moments. Its driver is started again until it ends well; images given up on are tried again. Then the output is
recounted. Prints one table; the exit code is 1 where an image was lost, or has two rows.
"""

import random
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.table import markdown
from pipeline import masks
from pipeline.cli import parse
from pipeline.errors import ConfigError
from tests.helpers.breaking import Job, Stage, stage
from tests.helpers.ray_cluster import kill

_KINDS = ("driver", "SegmentStage", "RefineStage", "other")
_HEADER = ("run", *(f"{kind}s killed" for kind in _KINDS), "starts", "given up, retried", "s", "rows", "lost", "twice")
_PADDING = 100_000  # bytes a picture, so that a fetch hands on several blocks, and may die between two
_OPERATOR = re.compile(r"MapBatches\((\w+)\)")


@dataclass(frozen=True, kw_only=True)
class RandomKills:
    """Kill what works for a run, at random moments.

    Args:
        runs: how many at least; each has an output of its own.
        kills: how many in all, at least.
        pictures: in each run.
        pause: seconds between two kills, at most.
        driver: share of the kills that hit the driver, 0 to 1.
        seed: of the moments and of what is hit.
    """

    runs: int = 20
    kills: int = 200
    pictures: int = 40
    pause: float = 10.0
    driver: float = 0.15
    seed: int = 1

    def __post_init__(self) -> None:
        """Raise ConfigError for what would not end, or not begin."""
        if min(self.runs, self.kills, self.pictures) < 1 or self.pause <= 0 or not 0 <= self.driver < 1:
            raise ConfigError("runs, kills and pictures must be at least 1, pause above 0, driver from 0 to below 1")


@dataclass
class Told:
    """What happened to one run."""

    killed: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    given_up: int = 0
    seconds: float = 0.0
    found: masks.Verification | None = None

    def counts(self, pictures: int) -> tuple[int, int, int]:
        """Rows that count, images without one, and images with two."""
        assert self.found is not None
        rows = self.found.segmented + self.found.failed
        return rows, pictures - rows, sum("a second row" in problem.what for problem in self.found.problems)


def main(argv: list[str] | None = None) -> int:
    """Run and print; returns the exit code."""
    config = parse(RandomKills, "Nothing lost, nothing twice, whatever is killed.", argv)
    print(f"seed {config.seed}", file=sys.stderr, flush=True)
    rng, told = random.Random(config.seed), list[Told]()
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as parts:
        while len(told) < config.runs or sum(one.killed.total() for one in told) < config.kills:
            told.append(one_run(parts, rng, config))
            print(_row(str(len(told)), told[-1:], config), file=sys.stderr, flush=True)
    rows = [_row(str(number), [one], config) for number, one in enumerate(told, start=1)]
    print(markdown(_HEADER, [*rows, _row("all", told, config)]))
    return int(any(one.found is None or one.found.problems or one.counts(config.pictures)[1] for one in told))


def one_run(parts: Stage, rng: random.Random, config: RandomKills) -> Told:
    """Start the job, and kill what works for it until it ends well all the same."""
    job, told, started = Job(parts, config.pictures, padding=_PADDING), Told(), time.monotonic()
    most = -(-config.kills // config.runs)
    while True:
        job.start()
        told.starts += 1
        while job.driver.poll() is None and told.killed.total() < most:
            time.sleep(rng.uniform(0, config.pause))
            _strike(job, rng, config.driver, told.killed)
        code, _, said = job.end()
        if code == 0:
            break
        print(f"ended with {code}: {said[-1000:]}", file=sys.stderr, flush=True)
    told.found = masks.verify(job.output)
    told.given_up = told.found.failed
    if told.given_up:
        job.start("--retry-errors=true")
        told.starts += 1
        code, _, said = job.end()
        assert code == 0, said
        told.found = masks.verify(job.output)
    told.seconds = time.monotonic() - started
    return told


def _strike(job: Job, rng: random.Random, driver: float, killed: Counter[str]) -> None:
    """Kill the driver or, once the run is at work, a process of it, whatever its work."""
    if rng.random() < driver:
        if job.driver.poll() is None:
            job.driver.kill()
            killed["driver"] += 1
        return
    while job.driver.poll() is None:
        working: dict[str, list[int]] = {}
        for process, title in sorted(job.parts.cluster.workers().items()):
            operator = _OPERATOR.search(title)
            working.setdefault(operator[1] if operator else "other", []).append(process)
        if "SegmentStage" in working or "RefineStage" in working:
            kind = rng.choice(sorted(working))
            kill(rng.choice(working[kind]))
            killed[kind] += 1
            return
        time.sleep(0.1)


def _row(name: str, told: list[Told], config: RandomKills) -> list[str]:
    killed = sum((one.killed for one in told), Counter[str]())
    counts = [sum(column) for column in zip(*(one.counts(config.pictures) for one in told), strict=True)]
    seconds = sum(one.seconds for one in told)
    figures = [sum(one.starts for one in told), sum(one.given_up for one in told), round(seconds), *counts]
    return [name, *(str(killed[kind]) for kind in _KINDS), *map(str, figures)]


if __name__ == "__main__":
    sys.exit(main())
