"""One run of jobs/segment_bucket.py as a person starts it, and whose CPU seconds it took."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from benchmarks.process_tree import TICKS_A_SECOND, below, command_line, process_ticks
from pipeline.batch.config import RunConfig
from pipeline.batch.summary import Summary
from pipeline.errors import RunError
from pipeline.runtime.plan import Plan

JOB = Path(__file__).parents[1] / "jobs" / "segment_bucket.py"
SAMPLE_SECONDS = 1.0

TASKS, SEGMENT, REFINE, TRACKER = "fetch and write tasks", "Segmenters", "Refiners", "tracker"
DRIVER, RAY, OTHERS, IDLE = "driver", "Ray's own processes", "other programs", "idle"
MACHINE = frozenset({OTHERS, IDLE})
"""Not of the job's own processes."""

_RAY_ACTORS = ("_StatsActor", "_AutoscalingCoordinatorActor", "ActorLocationTracker", "Agent")


@dataclass(frozen=True, kw_only=True)
class JobRun:
    """A finished run: its summary, the plan that is in there, and core seconds by who spent them."""

    summary: Summary
    plan: Plan
    core_seconds: Counter[str]

    @property
    def seconds(self) -> float:
        """From the first image done to the end."""
        return self.summary.seconds - self.summary.startup_seconds


def run_job(config: RunConfig, folder: Path) -> JobRun:
    """Run the job on this machine alone; its stdout and stderr go to files in `folder`.

    Raises:
        RunError: the job failed.
    """
    settings, out, err = (folder / f"job.{name}" for name in ("yaml", "out", "err"))
    settings.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(config)))))
    alone = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with (
        out.open("w") as stdout,
        err.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, str(JOB), "--config", str(settings)], env=alone, stdout=stdout, stderr=stderr
        ) as job,
    ):

        def ended(seconds: float) -> bool:
            with suppress(subprocess.TimeoutExpired):
                job.wait(seconds)
            return job.returncode is not None

        spent = core_seconds(job.pid, ended)
    if job.returncode not in (0, 3):
        messages = err.read_text()[-2000:]
        raise RunError(f"the job ended with exit code {job.returncode}; its last messages:\n{messages}")
    counted = json.loads(out.read_text().splitlines()[-1])
    plan = Plan(**counted["plan"])
    return JobRun(summary=Summary(**(counted | {"plan": plan})), plan=plan, core_seconds=spent)


def core_seconds(driver: int, ended: Callable[[float], bool]) -> Counter[str]:
    """Core seconds by group, sampled from Linux's /proc until the job whose driver is process `driver` ends.

    `ended` waits for that for at most so many seconds, and tells.
    """
    spent: Counter[str] = Counter()
    seen: Counter[int] = Counter()
    busy_before, idle_before = _machine_ticks()
    while True:
        for pid, ticks in below(driver, process_ticks()).items():
            spent[_group(pid, driver)] += ticks - seen[pid]
            seen[pid] = ticks
        if not ended(SAMPLE_SECONDS):
            continue
        busy, idle = _machine_ticks()
        spent[OTHERS], spent[IDLE] = busy - busy_before - spent.total(), idle - idle_before
        return Counter({group: ticks / TICKS_A_SECOND for group, ticks in spent.items()})


def _machine_ticks() -> tuple[int, int]:
    """(busy, idle) of all cores since the machine started; what a hypervisor took away counts as busy."""
    user, nice, system, idle, waiting, *rest = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return user + nice + system + sum(rest), idle + waiting


def _group(pid: int, driver: int) -> str:
    """Tell whose process this is by the title that Ray gives it while it works."""
    if pid == driver:
        return DRIVER
    title = command_line(pid)
    for word, group in (("SegmentStage", SEGMENT), ("RefineStage", REFINE), ("LocalTracker", TRACKER)):
        if word in title:
            return group
    return TASKS if title.startswith("ray::") and not any(name in title for name in _RAY_ACTORS) else RAY
