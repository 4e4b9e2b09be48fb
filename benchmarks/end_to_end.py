"""How close the job comes to what its stages could do: `python -m benchmarks.end_to_end --input URI`.

Prints one table: images/s of the job, of each stage's bare loop on the same cores, and the ratio of the job to the
bound those loops set. On shared cores the times of the stages add up: the bound is 1 / sum(1 / rate). With GPUs it is
the slower of the GPUs' loop and of the CPUs' loops added up.

The job runs as a person starts it, over all images and over their first quarter. Its steady rate is what the images
between the two cost: (N - n) / (seconds(N) - seconds(n)), counted from the first image done. What a run does once
cancels out: ending, and the head start that the first stages have by then. So it does in the core time of an image,
which tells where the rest went. Job and loops take turns, `repeat` times.

Run it on Linux, on one machine with nothing else on it, over some hundred images: the loops hold them in memory.
"""

import os
import platform
import secrets
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

import torch

from benchmarks.bare_loops import STAGES, Loop, Task, Workers, chunks_of
from benchmarks.job_run import DRIVER, IDLE, MACHINE, OTHERS, RAY, REFINE, SEGMENT, TASKS, TRACKER, JobRun, run_job
from benchmarks.table import markdown, number
from pipeline import masks, storage
from pipeline.batch.config import RunConfig
from pipeline.cli import parse
from pipeline.errors import ConfigError, PipelineError, RunError
from pipeline.models import Inference
from pipeline.refine import RefineConfig
from pipeline.runtime.plan import Plan
from pipeline.storage import Uri

DEFAULT_MODEL = Uri("scenes")
Samples = dict[tuple[str, str], list[float]]
"""(what, unit) to its value in each repetition."""


@dataclass(frozen=True, kw_only=True)
class EndToEnd:
    """Measure the job against its stages.

    Args:
        input: as the job takes it.
        output: where the runs write, each in a folder of its own; by default a local one that is removed afterwards.
        model: as the job takes it.
        input_format: as the job takes it.
        limit: take only the first N images of the listing.
        repeat: how often job and loops take turns.
        loop_seconds: a loop goes on for at least so long, in whole passes over the images.
        inference: as the job takes it.
        refine: as the job takes it.
    """

    input: Uri
    output: Uri | None = None
    model: Uri = DEFAULT_MODEL
    input_format: Literal["auto", "images", "webdataset", "parquet"] = "auto"
    limit: int | None = None
    repeat: int = 3
    loop_seconds: float = 5.0
    inference: Inference = field(default_factory=Inference)
    refine: RefineConfig = field(default_factory=RefineConfig)

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if self.repeat < 1 or self.loop_seconds <= 0:
            raise ConfigError(f"repeat is {self.repeat} and loop_seconds {self.loop_seconds}; give 1 and above 0")

    def run(self, output: str, limit: int | None) -> RunConfig:
        """Configure the job for one run, into a fresh folder below `output`."""
        return RunConfig(
            input=self.input,
            output=Uri(storage.join(output, f"run-{secrets.token_hex(4)}")),
            model=self.model,
            input_format=self.input_format,
            limit=limit,
            error_budget=1.0,
            inference=self.inference,
            refine=self.refine,
        )


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as Ray sets it for actors of one CPU or less
    try:
        config = parse(EndToEnd, "images/s of the job and of its stages by themselves.", argv)
        with tempfile.TemporaryDirectory() as folder:
            measure(config, Path(folder))
    except PipelineError as error:
        print(f"end_to_end: {error}", file=sys.stderr)
        return 1
    return 0


def measure(config: EndToEnd, folder: Path) -> None:
    """Let job and loops take turns and print the table."""
    output = storage.normalize(config.output or str(folder / "output"))
    say("the job over all images")
    whole = config.run(output, config.limit)
    first = run_job(whole, folder)
    images = first.summary.listed
    task = _task(whole, first, folder, config.loop_seconds)
    processes = _processes(first.plan, task)
    samples: Samples = defaultdict(list)
    with Workers(processes.values()) as pool:
        for turn in range(config.repeat):
            say(f"turn {turn + 1} of {config.repeat}: the job over {images // 4} images, then over {images}")
            short = run_job(config.run(output, images // 4), folder)
            long = run_job(config.run(output, config.limit), folder) if turn else first
            loops = {stage: _loop(pool, stage, task, processes[stage]) for stage in STAGES}
            _record(samples, short, long, loops, processes)
    print(_report(config, first, samples))


def say(text: str) -> None:
    """Print one line for the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def _loop(pool: Workers, stage: str, task: Task, processes: int) -> Loop:
    say(f"  the bare loop of {stage}")
    return pool.loop(stage, task, processes)


def _task(config: RunConfig, run: JobRun, folder: Path, seconds: float) -> Task:
    if run.summary.listed < 4 * run.plan.segmenters:
        raise RunError(
            f"{run.summary.listed} images do not fill {run.plan.segmenters} Segmenters four times over; give more"
        )
    manifest = storage.join(config.output, "_runs", run.summary.run_id, "manifest")
    return Task(
        config=config,
        manifest=manifest,
        chunks=chunks_of(manifest),
        info=masks.generations(config.output)[0],
        segment_batch=run.plan.segmenter_batch,
        refine_batch=run.plan.refiner_batch,
        folder=folder,
        seconds=seconds,
    )


def _processes(plan: Plan, task: Task) -> dict[str, int]:
    """Count the processes of each loop: as many as the job, as long as there is work for each."""
    rows = sum(chunk.rows for chunk in task.chunks)
    return {
        "fetch": min(plan.fetchers, len(task.chunks)),
        "segment": min(plan.segmenters, -(-rows // task.segment_batch)),
        "refine": min(plan.refiners, -(-rows // task.refine_batch)),
        "write": min(os.cpu_count() or 1, rows),
    }


def _record(samples: Samples, short: JobRun, long: JobRun, loops: dict[str, Loop], processes: dict[str, int]) -> None:
    """Add what one turn measured to `samples`, in the order of the table."""
    images = long.summary.listed - short.summary.listed
    seconds = long.seconds - short.seconds
    if short.plan != long.plan or seconds <= 0:
        raise RunError(
            f"{long.summary.listed} images took {long.seconds:.1f} s on {long.plan}, {short.summary.listed} took "
            f"{short.seconds:.1f} s on {short.plan}: that gives no rate; give more images"
        )
    for stage, loop in loops.items():
        plural = "es" * (processes[stage] > 1)
        samples[f"{stage}: bare loop, {processes[stage]} process{plural}", "images/s"].append(loop.images_per_second)
    limit = _bound(loops, bool(long.plan.segmenter_gpus))
    how = "the slower of GPUs and CPUs" if long.plan.segmenter_gpus else "the stages share the cores"
    samples[f"bound: {how}", "images/s"].append(limit)
    samples["job, steady", "images/s"].append(images / seconds)
    samples["job / bound", ""].append(images / seconds / limit)
    samples["job, whole run", "images/s"].append(long.summary.listed / long.summary.seconds)
    samples["start-up, to the first image done", "s"].append(long.summary.startup_seconds)

    def core_time(what: str, core_seconds: float) -> None:
        samples[f"core time: {what}", "ms/image"].append(1000 * core_seconds)

    spent = {group: (long.core_seconds[group] - short.core_seconds[group]) / images for group in long.core_seconds}
    core_time("all cores", seconds * (os.cpu_count() or 1) / images)
    for group, stages in ((TASKS, ("fetch", "write")), (SEGMENT, ("segment",)), (REFINE, ("refine",))):
        core_time(f"{' and '.join(stages)}, bare loop", sum(loops[stage].cpu_seconds for stage in stages))
        core_time(f"{group}, in the job", spent[group])
    for group in (DRIVER, TRACKER, RAY, OTHERS, IDLE):
        core_time(group, spent[group])
    bare = sum(loop.cpu_seconds for loop in loops.values())
    samples["core time: bare loops / job", ""].append(
        bare / sum(spent[group] for group in spent if group not in MACHINE)
    )


def _bound(loops: dict[str, Loop], gpu: bool) -> float:
    """Images/s that the loops allow."""
    times = {stage: 1 / loop.images_per_second for stage, loop in loops.items()}
    on_gpus = times.pop("segment") if gpu else 0.0
    return 1 / max(on_gpus, sum(times.values()))


def _report(config: EndToEnd, run: JobRun, samples: Samples) -> str:
    rows = [
        (what, number(median(values)), number(min(values)), number(max(values)), unit)
        for (what, unit), values in samples.items()
    ]
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return "\n".join(
        [
            f"{run.summary.listed} images of {storage.redact(config.input)}",
            f"model {storage.redact(config.model)}, refinement {config.refine.backend}, turns {config.repeat}",
            f"machine: {os.cpu_count()} cores ({_processor()}), {', '.join(gpus) or 'no GPU'}",
            f"command: python {' '.join(storage.redact(word) for word in sys.argv)}",
            "",
            markdown(("what", "median", "min", "max", "unit"), rows),
        ]
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())
