"""A TorchTrainer around the workers: as many as fit, repeated when one is lost, watched while they work."""

from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from pipeline import storage
from pipeline.batch.remote import root_cause
from pipeline.errors import RunError
from pipeline.models.deeplab import SegmentationModel
from pipeline.training.background import in_background
from pipeline.training.distributed.library import Library
from pipeline.training.distributed.worker import STATE_FILE, Job, work
from pipeline.training.recipe import Recipe
from pipeline.training.watch import Board, Watch
from pipeline.training.workers import share_of

_TICK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run came to.

    Attributes:
        state: the best checkpoint, as `loop.restore` takes it.
        metrics: step, loss and, where there is validation, mean_iou, as they were at that checkpoint.
        steps_per_second: without the start; 0 for a single step.
    """

    state: bytes
    metrics: dict[str, Any]
    steps_per_second: float


def fit(
    model: SegmentationModel,
    recipe: Recipe,
    training: Library,
    validation: Library | None,
    *,
    folder: str,
    workers: tuple[int, int],
    max_failures: int,
) -> Trained:
    """Train on the cluster, from the last checkpoint below `folder` where there is one.

    Raises:
        RunError: the cluster has no room, or training failed more than `max_failures` times.
    """
    each = share_of([node["Resources"] for node in ray.nodes() if node["Alive"]], *workers)  # type: ignore[no-untyped-call]
    board: Any = ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()
    job = Job(
        model=ray.put(model),
        recipe=recipe,
        training=training,
        validation=validation,
        board=board,
        threads=each.cpus,
    )
    parent, _, name = folder.rpartition("/")
    filesystem, path = storage.arrow_filesystem(parent)
    trainer = TorchTrainer(
        work,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=workers[0] if workers[0] == workers[1] else workers,  # type: ignore[arg-type]
            use_gpu=each.gpu,
            resources_per_worker={"CPU": each.cpus} | ({"GPU": 1} if each.gpu else {}),
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # Ray has typed its first version
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="score"),  # best, and last
            failure_config=FailureConfig(max_failures=max_failures),
            logging_config=LoggingConfig(log_level="CRITICAL"),
        ),
    )
    with Watch(recipe.iterations, storage.join(folder, "tensorboard")) as watch:
        done = in_background(trainer.fit)
        while not done.done():
            wait([done], _TICK_SECONDS)
            watch.show(ray.get(board.take.remote()))
        try:
            result = done.result()
        except ray.train.TrainingFailedError as error:
            raise RunError(f"training failed: {_cause(error)}") from error
    checkpoint, metrics = max(result.best_checkpoints or (), key=lambda found: found[1]["score"])
    with checkpoint.as_directory() as local:
        state = (Path(local) / STATE_FILE).read_bytes()
    return Trained(state=state, metrics=metrics, steps_per_second=watch.steps_per_second)


def _cause(error: Exception) -> str:
    """The first worker's error, in a line."""
    first = next(iter(getattr(error, "worker_failures", {}).values()), error)
    cause = root_cause(first)
    return " ".join([f"{type(cause).__name__}:", *str(cause).strip().splitlines()[:1]])
