"""A TorchTrainer around the workers: as many as fit, replaced when one is lost, their progress shown."""

from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any

import pyarrow.fs
import ray
import ray.train
from fsspec.implementations.memory import MemoryFileSystem
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from pipeline import storage
from pipeline.errors import RunError
from pipeline.models.deeplab import SegmentationModel
from pipeline.runtime.background import in_background
from pipeline.runtime.cluster import fit_when_free
from pipeline.runtime.labelled import LabelledDataset
from pipeline.runtime.progress import say
from pipeline.training.checkpoints import Checkpoint, Checkpoints
from pipeline.training.distributed.failures import StopForGood, reason
from pipeline.training.distributed.worker import Job, work
from pipeline.training.recipe import Recipe
from pipeline.training.training_log import Report, ReportQueue, TrainingLog
from pipeline.training.workers import Share, share_of

_SHOW_SECONDS = 0.5
_REPORTS_SECONDS = 10.0
_START_FAILURES = 4
"""How often workers that do not start, for which Ray Train waits a minute each time, are started again."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Holds the outcome of a run.

    Attributes:
        best: the checkpoint with the highest score.
        steps_per_second: without the start; 0 for a single step.
    """

    best: Checkpoint
    steps_per_second: float


def fit(
    model: SegmentationModel,
    recipe: Recipe,
    training: LabelledDataset,
    validation: LabelledDataset | None,
    *,
    checkpoints: Checkpoints,
    workers: tuple[int, int],
    max_failures: int,
) -> Trained:
    """Train on the cluster, from the last checkpoint where there is one.

    Args:
        model: to begin with.
        recipe: how it is trained.
        training: the pairs to train on.
        validation: the pairs that choose the best checkpoint, or None.
        checkpoints: of the run; its TensorBoard files go beside them.
        workers: the fewest and the most.
        max_failures: how often a lost worker is replaced.

    Raises:
        RunError: the cluster cannot hold the workers, training diverged, it failed in a way that is sure to come again,
            or more than `max_failures` times.
        StorageError: the storage stopped answering, or is full.
    """
    each = share_when_free(*workers)
    reports = start_report_queue()
    job = Job(
        model=ray.put(model),
        recipe=recipe,
        training=training,
        validation=validation,
        reports=reports,
        threads=each.cpus,
        checkpoints=checkpoints,
        retry_seconds=storage.retry_seconds(),
    )
    folder, name = checkpoints.folder, checkpoints.folder.rpartition("/")[2]
    trainer = _trainer(job, name, each, workers, max_failures)
    say(f"waiting for {_described(*workers)}, {each}")
    with TrainingLog(name, recipe.iterations, storage.join(folder, "tensorboard")) as log:
        fitting = in_background(trainer.fit)
        while not fitting.done():
            wait([fitting], _SHOW_SECONDS)
            log.show(take_reports(reports))
        try:
            fitting.result()
        except ray.train.TrainingFailedError as error:
            raise reason(error) from error
    best = checkpoints.best(say)
    if best is None:
        raise RunError(f"no checkpoint in {storage.redact(folder)} is whole; the same command trains anew")
    return Trained(best=best, steps_per_second=log.steps_per_second)


def _trainer(job: Job, name: str, each: Share, workers: tuple[int, int], max_failures: int) -> TorchTrainer:
    nowhere = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(MemoryFileSystem()))  # what is kept, Checkpoints keeps
    return TorchTrainer(
        work,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=workers[0] if workers[0] == workers[1] else workers,  # type: ignore[arg-type]
            use_gpu=each.gpu,
            resources_per_worker={"CPU": each.cpus} | ({"GPU": 1} if each.gpu else {}),
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # Ray has typed its first version
            name=name,
            storage_path="/",
            storage_filesystem=nowhere,
            failure_config=FailureConfig(
                max_failures=max_failures,
                controller_failure_limit=_START_FAILURES,  # type: ignore[call-arg]
            ),
            callbacks=[StopForGood()],  # type: ignore[list-item]
            logging_config=LoggingConfig(log_level="CRITICAL"),
        ),
    )


def share_when_free(low: int, high: int) -> Share:
    """Give each of `low` to `high` workers its share of what is free, as fit_when_free does.

    Raises:
        RunError: not even `low` workers fit.
    """
    gpu = ray.cluster_resources().get("GPU", 0) >= 1  # type: ignore[no-untyped-call]
    return fit_when_free(lambda free: share_of(free, low, high, gpu=gpu))


def start_report_queue() -> Any:
    """Start the ReportQueue actor. Ray replaces its process when that is lost, and the new one has no reports."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(ReportQueue).remote()


def take_reports(reports: Any) -> list[Report]:
    """Take the reports since the last time; none where the queue is lost or away: training does not depend on it."""
    try:
        taken: list[Report] = ray.get(reports.take.remote(), timeout=_REPORTS_SECONDS)
    except ray.exceptions.RayError:
        return []
    return taken


def _described(low: int, high: int) -> str:
    return f"{low} to {high} workers" if low < high else f"{high} worker{'s' * (high > 1)}"
