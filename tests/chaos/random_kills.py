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
class Outcome:
    """Counts what happened to one run."""

    killed: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    given_up: int = 0
    seconds: float = 0.0
    verified: masks.Verification | None = None

    def counts(self, pictures: int) -> tuple[int, int, int]:
        """Rows that count, images without one, and images with two."""
        assert self.verified is not None
        rows = self.verified.segmented + self.verified.failed
        return rows, pictures - rows, sum("a second row" in problem.what for problem in self.verified.problems)


def main(argv: list[str] | None = None) -> int:
    """Run and print; returns the exit code."""
    config = parse(RandomKills, "Nothing lost, nothing twice, whatever is killed.", argv)
    print(f"seed {config.seed}", file=sys.stderr, flush=True)
    rng, outcomes = random.Random(config.seed), list[Outcome]()
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as parts:
        while len(outcomes) < config.runs or sum(one.killed.total() for one in outcomes) < config.kills:
            outcomes.append(one_run(parts, rng, config))
            print(_row(str(len(outcomes)), outcomes[-1:], config), file=sys.stderr, flush=True)
    rows = [_row(str(number), [one], config) for number, one in enumerate(outcomes, start=1)]
    print(markdown(_HEADER, [*rows, _row("all", outcomes, config)]))
    return int(any(one.verified is None or one.verified.problems or one.counts(config.pictures)[1] for one in outcomes))


def one_run(parts: Stage, rng: random.Random, config: RandomKills) -> Outcome:
    """Start the job, and kill what works for it until it ends well all the same."""
    job, outcome, started = Job(parts, config.pictures, padding=_PADDING), Outcome(), time.monotonic()
    most = -(-config.kills // config.runs)
    while True:
        job.start()
        outcome.starts += 1
        while job.driver.poll() is None and outcome.killed.total() < most:
            time.sleep(rng.uniform(0, config.pause))
            _kill_one(job, rng, config.driver, outcome.killed)
        code, _, messages = job.end()
        if code == 0:
            break
        print(f"ended with {code}: {messages[-1000:]}", file=sys.stderr, flush=True)
    outcome.verified = masks.verify(job.output)
    outcome.given_up = outcome.verified.failed
    if outcome.given_up:
        job.start("--retry-errors")
        outcome.starts += 1
        code, _, messages = job.end()
        assert code == 0, messages
        outcome.verified = masks.verify(job.output)
    outcome.seconds = time.monotonic() - started
    return outcome


def _kill_one(job: Job, rng: random.Random, driver: float, killed: Counter[str]) -> None:
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


def _row(name: str, outcomes: list[Outcome], config: RandomKills) -> list[str]:
    killed = sum((one.killed for one in outcomes), Counter[str]())
    counts = [sum(column) for column in zip(*(one.counts(config.pictures) for one in outcomes), strict=True)]
    seconds = sum(one.seconds for one in outcomes)
    figures = [sum(one.starts for one in outcomes), sum(one.given_up for one in outcomes), round(seconds), *counts]
    return [name, *(str(killed[kind]) for kind in _KINDS), *map(str, figures)]


if __name__ == "__main__":
    sys.exit(main())
