"""The cost of training on Ray: `python -m benchmarks.training --data URI --data_format camvid`.

Prints one table: images/s of jobs/train.py, its data decoded and augmented; images/s of the bare loop, the
same steps on tensors that lie in memory; and their ratio. Both have the same network, recipe, processes and threads.
Rates are from the end of the first step to the end of the last: start, checks and the export are left out. Job and loop
take turns, `repeat` times.
"""

import dataclasses
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import torch
import yaml
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from benchmarks.table import markdown, number
from pipeline import models, storage
from pipeline.cli import parse
from pipeline.data.labelled import Layout, labels, list_pairs
from pipeline.data.labelled.pairs import Pixels, decode, fetch
from pipeline.errors import ConfigError, PipelineError, RunError
from pipeline.storage import Uri
from pipeline.training.config import TrainConfig
from pipeline.training.distributed.batches import AHEAD, loaders_beside
from pipeline.training.examples import collate, example, share, shuffled
from pipeline.training.loop import StepResult, train
from pipeline.training.recipe import Recipe

JOB = Path(__file__).parents[1] / "jobs" / "train.py"
IN_MEMORY = 4
"""Batches that the bare loop takes in turn."""

STEPS_A_BATCH_AHEAD = 10
"""So that nearly all of the job's batches are made while the time runs: those made ahead are there when it starts."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """Measure the training job against its bare loop.

    Args:
        data: as the job takes it.
        data_format: as the job takes it.
        classes: as the job takes it.
        model: as the job takes it.
        workers: processes.
        cores: that networks train on, job and loop alike; Ray counts no more, and has the machine's others for what
            makes the batches and for itself. 0 for all.
        recipe: as the job takes it; its iterations are one measurement.
        repeat: how often job and loop take turns.
    """

    data: Uri
    data_format: Layout
    classes: tuple[str, ...] | None = None
    model: str = "light"
    workers: int = 1
    cores: int = 0
    recipe: Recipe = field(default_factory=lambda: Recipe(iterations=320, batch=4, crop=257, freeze_bn=False))
    repeat: int = 3

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if self.repeat < 1:
            raise ConfigError(f"repeat is {self.repeat}; give 1 at least")
        there = os.cpu_count() or 1
        if self.cores and not self.workers <= self.cores <= there:
            raise ConfigError(f"cores is {self.cores}; give one for each worker, at most {there}, or 0 for all")
        self.job("output")  # refuses what the job would
        ahead = AHEAD * loaders_beside(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        if self.recipe.iterations < STEPS_A_BATCH_AHEAD * ahead:
            raise ConfigError(
                f"recipe.iterations is {self.recipe.iterations}; give {STEPS_A_BATCH_AHEAD * ahead} at least: the job "
                f"makes {ahead} batches ahead, before the time runs"
            )

    def job(self, output: str) -> TrainConfig:
        """Configure the job: no checkpoint before the end, and nothing scored."""
        return TrainConfig(
            data=self.data,
            data_format=self.data_format,
            classes=self.classes,
            output=Uri(output),
            name=f"run-{secrets.token_hex(4)}",
            model=self.model,
            workers=self.workers,
            validation_split=None,
            recipe=dataclasses.replace(self.recipe, checkpoint_every=self.recipe.iterations),
        )


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(Training, "images/s of the training job and of its bare loop.", argv)
        with tempfile.TemporaryDirectory() as folder:
            measure(config, Path(folder))
    except PipelineError as error:
        print(f"training: {error}", file=sys.stderr)
        return 1
    return 0


def measure(config: Training, folder: Path) -> None:
    """Let job and loop take turns and print the table."""
    jobs, loops = [], []
    for turn in range(config.repeat):
        print(f"turn {turn + 1} of {config.repeat}: the job, then the bare loop", file=sys.stderr, flush=True)
        job = config.job(str(folder / "output"))
        jobs.append(run_job(job, config.cores, folder))
        loops.append(run_loop(job, config.cores, folder))
    ratios = [job / loop for job, loop in zip(jobs, loops, strict=True)]
    rows = [
        (what, number(median(values)), number(min(values)), number(max(values)), unit)
        for what, values, unit in (
            (f"bare loop on tensors in memory, {config.workers} processes", loops, "images/s"),
            ("job", jobs, "images/s"),
            ("job / bare loop", ratios, ""),
        )
    ]
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    print(f"{config.data_format} at {storage.redact(config.data)}, model {config.model}, {config.recipe}")
    having = f"{os.cpu_count()} cores, {config.cores or 'all'} to train on"
    print(f"machine: {having}, {', '.join(gpus) or 'no GPU'}; turns {config.repeat}\n")
    print(markdown(("what", "median", "min", "max", "unit"), rows))


def run_job(job: TrainConfig, cores: int, folder: Path) -> float:
    """Images/s of the job as a person starts it. Raises RunError when it fails."""
    settings = folder / "job.yaml"
    settings.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(job)))))
    command = [sys.executable, str(JOB), "--config", str(settings)]
    variables = {"RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": cores})} if cores else {}
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"the job ended with exit code {done.returncode}: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["images_per_second"])


def run_loop(job: TrainConfig, cores: int, folder: Path) -> float:
    """Images/s of the plain loop in as many processes as the job has workers."""
    workers, _ = job.worker_range
    meeting = folder / f"meeting-{secrets.token_hex(4)}"
    threads = 1 if torch.cuda.is_available() else max((cores or os.cpu_count() or 1) // workers, 1)
    spawn(_loop, args=(workers, job, threads, str(meeting)), nprocs=workers)  # type: ignore[no-untyped-call]
    return float(meeting.with_suffix(".rate").read_text())


def _loop(rank: int, workers: int, job: TrainConfig, threads: int, meeting: str) -> None:
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", rank) if gpu else torch.device("cpu")
    torch.set_num_threads(threads)
    if workers > 1:
        backend = "nccl" if gpu else "gloo"
        torch.distributed.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=workers)
    layout_labels = labels(job.data_format, job.classes)
    model = models.build(job.architecture, layout_labels.classes, backbone_weights=job.init)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.to(device)
    rows = fetch(list_pairs(job.data, job.data_format, job.split)[:64], layout_labels).to_pylist()

    def sample(draw: int) -> tuple[Pixels, Pixels]:
        row = rows[shuffled(draw, len(rows), job.recipe.seed)]
        return decode(row["image"], row["mask"], layout_labels)

    how = model.card.preprocessing
    held: list[tuple[Tensor, Tensor]] = []
    for step in range(IN_MEMORY):
        draws = share(step, job.recipe, rank, workers)
        images, masks = collate([example(sample, draw, how, job.recipe) for draw in draws], how)
        held.append((images.to(device), masks.to(device)))
    times: list[float] = []

    def on_step(_: StepResult) -> None:
        times.append(time.perf_counter())

    train(
        model, lambda _: (held[step % IN_MEMORY] for step in range(job.recipe.iterations)), job.recipe, on_step=on_step
    )
    if rank == 0:
        rate = job.recipe.batch * (len(times) - 1) / (times[-1] - times[0])
        Path(meeting).with_suffix(".rate").write_text(str(rate))


if __name__ == "__main__":
    sys.exit(main())
