"""Where a run's start goes: `python -m benchmarks.startup`.

One run of jobs/segment_bucket.py over a few generated frames on this machine alone, and then the same run again, which
has nothing to do. Of each it prints when what was first seen, and every process of the run: when it was started, its
core seconds and the large modules that it has loaded. The last line is one JSON object. Linux only: processes are read
from /proc every SAMPLE_SECONDS, so that one which lives for less may be missed.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.job_run import JOB
from benchmarks.process_tree import TICKS_A_SECOND, below, command_line, process_ticks
from benchmarks.scale import jpeg
from benchmarks.table import markdown, number
from pipeline.cli import parse
from pipeline.errors import ConfigError, PipelineError, RunError

SAMPLE_SECONDS = 0.1

_LIBRARIES = {
    "torch": "/libtorch_python",
    "pandas": "/pandas/_libs/",
    "pyarrow": "/libarrow_python",
    "ray": "/ray/_raylet",
    "aiohttp": "/aiohttp/_",
    "CRF core": "/dense_crf_core",
}
"""Parts of the names of files that are mapped into a process which has loaded a module."""


@dataclass(frozen=True, kw_only=True)
class StartupBenchmark:
    """Show where the start of a small run goes.

    Args:
        images: generated frames of 500x375 pixels.
        model: as in the job.
    """

    images: int = 24
    model: str = "scenes"

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if self.images < 1:
            raise ConfigError(f"images is {self.images}; give at least 1")


@dataclass(kw_only=True)
class Process:
    """Describe a process of the run: its title as last seen, seconds from the run's start, ticks of a core."""

    title: str
    began: float
    ticks: int = 0
    modules: set[str] = field(default_factory=set)

    @property
    def core_seconds(self) -> float:
        """Give what it took of a core."""
        return self.ticks / TICKS_A_SECOND


@dataclass(kw_only=True)
class Start:
    """Hold what was seen of a run: its summary, when each phase was reached, in seconds, and its processes by id."""

    summary: dict[str, Any]
    phases: dict[str, float]
    processes: dict[int, Process]

    @property
    def core_seconds(self) -> float:
        """Sum up over the processes."""
        return sum(process.core_seconds for process in self.processes.values())

    def figures(self) -> dict[str, Any]:
        """Give what the last line says of it."""
        with_torch = sum("torch" in process.modules for process in self.processes.values())
        return {
            "seconds": round(self.phases["process ended"], 2),
            "first_mask_seconds": round(self.phases.get("first mask", 0.0), 2) or None,
            "core_seconds": round(self.core_seconds, 2),
            "processes": len(self.processes),
            "processes_with_torch": with_torch,
        }


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(StartupBenchmark, "Where the start of a small run goes.", argv)
        with tempfile.TemporaryDirectory() as folder:
            write_frames(Path(folder) / "in", config.images)
            figures = {what: shown(what, run(config, Path(folder))) for what in ("run", "rerun")}
    except PipelineError as error:
        print(f"startup: {error}", file=sys.stderr)
        return 1
    print(json.dumps(figures))
    return 0


def shown(what: str, start: Start) -> dict[str, Any]:
    """Print the tables of a run; returns its figures."""
    print(f"{what}:\n")
    print(markdown(("phase", "seconds"), phase_rows(start)) + "\n")
    print(markdown(("process", "from second", "core seconds", "has loaded"), process_rows(start)) + "\n", flush=True)
    return start.figures()


def write_frames(folder: Path, count: int) -> None:
    """Write `count` JPEGs."""
    folder.mkdir(parents=True)
    for frame in range(count):
        (folder / f"{frame:06d}.jpg").write_bytes(jpeg(frame))


def run(config: StartupBenchmark, folder: Path) -> Start:
    """Run the job, and watch it. Raises RunError where it fails."""
    flags = [f"--input={folder}/in", f"--output={folder}/out", f"--model={config.model}"]
    alone = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, str(JOB), *flags], env=alone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        out: list[tuple[float, str]] = []
        err: list[tuple[float, str]] = []
        readers = [
            threading.Thread(target=read_lines, args=(stream, lines, began))
            for stream, lines in ((job.stdout, out), (job.stderr, err))
        ]
        for reader in readers:
            reader.start()
        processes = watch(job, began)
        ended = time.monotonic() - began
        for reader in readers:
            reader.join()
    if job.returncode:
        raise RunError(f"the job ended with exit code {job.returncode}: " + " ".join(line for _, line in err[-5:]))
    said, line = out[-1]
    summary = json.loads(line)
    return Start(
        summary=summary,
        phases=dict(sorted(phases(processes, err, summary, said, ended).items(), key=lambda phase: phase[1])),
        processes=processes,
    )


def read_lines(stream: Any, lines: list[tuple[float, str]], began: float) -> None:
    """Note each line of a stream with its time."""
    lines.extend((time.monotonic() - began, line.rstrip()) for line in stream)


def watch(job: subprocess.Popen[str], began: float) -> dict[int, Process]:
    """Read the processes of a job until it ends."""
    seen: dict[int, Process] = {}
    while job.poll() is None:
        now = time.monotonic() - began
        for pid, ticks in below(job.pid, process_ticks()).items():
            title = command_line(pid)
            process = seen.setdefault(pid, Process(title=title, began=now))
            process.title, process.ticks = title or process.title, ticks
            process.modules.update(modules(pid))
        time.sleep(SAMPLE_SECONDS)
    return seen


def modules(pid: int) -> Iterator[str]:
    """Tell which large modules a process has loaded."""
    try:
        mapped = Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # it has just ended
        return
    yield from (name for name, part in _LIBRARIES.items() if part in mapped)


def phases(
    processes: dict[int, Process], err: list[tuple[float, str]], summary: dict[str, Any], said: float, ended: float
) -> dict[str, float]:
    """Give when each phase was reached, as seen from outside; the first mask by the summary's own clock."""
    found = {"run began": said - summary["seconds"], "summary printed": said, "process ended": ended}
    if summary["plan"]:
        found["first mask"] = said - summary["seconds"] + summary["startup_seconds"]
    for when, line in err:
        for part, phase in (("images listed", "listed"), ("plan:", "planned")):
            if part in line:
                found[phase] = when
    for part, phase in (("gcs_server", "Ray's control store started"), ("/raylet ", "Ray's node started")):
        began = [process.began for process in processes.values() if part in process.title]
        if began:
            found[phase] = min(began)
    return found


def phase_rows(start: Start) -> list[tuple[str, str]]:
    """Make the rows of the timeline."""
    return [(phase, number(seconds)) for phase, seconds in start.phases.items()]


def process_rows(start: Start) -> list[tuple[str, str, str, str]]:
    """Make a row for each process, in the order of their starts, and one for all."""
    rows = [
        (short(process.title), number(process.began), number(process.core_seconds), ", ".join(sorted(process.modules)))
        for process in start.processes.values()
    ]
    return [*rows, ("all", "", number(start.core_seconds), "")]


def short(title: str) -> str:
    """Shorten a command line to the program's name, or the title that Ray gives to a process at work."""
    words = title.split()
    if not words or words[0].startswith("ray::"):
        return title[:60]
    program = next((word for word in words[1:] if word.endswith(".py")), words[0])
    return "/".join(program.split("/")[-2:])


if __name__ == "__main__":
    sys.exit(main())
