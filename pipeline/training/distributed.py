"""Training on Ray: the pairs through Ray Data, the plain loop in the workers of a TorchTrainer."""

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.train
import torch
from ray.data import DataContext, Datasource, ExecutionResources, ReadTask
from ray.data.block import BlockMetadata
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import Tensor

from pipeline import storage
from pipeline.batch.remote import root_cause
from pipeline.batch.ticker import every
from pipeline.errors import ConfigError, RunError
from pipeline.models.card import Preprocessing
from pipeline.models.deeplab import SegmentationModel
from pipeline.training.data import collate, example, share, shuffled
from pipeline.training.loop import Progress, train
from pipeline.training.pairs import Labels, Pair, Pixels, decode, fetch
from pipeline.training.recipe import Recipe
from pipeline.training.validation import mean_iou
from pipeline.training.watch import Board, Note, Watch
from pipeline.training.workers import share_of

STATE_FILE = "state.pt"
_PAIRS_A_TASK = 32
_STEPS_A_TASK = 8
_FETCHERS = 8
_READ_AHEAD_BYTES = 256 * 1024 * 1024
_TICK_SECONDS = 0.5
_PROBLEMS_SHOWN = 10

Blocks = Callable[[], Iterable[pa.Table]]


class Tasks(Datasource):
    """A Ray Data source of calls, each made in a task of its own and giving some tables."""

    def __init__(self, calls: Sequence[Blocks]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls = calls

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown before anything is read."""
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """One task a call, whatever parallelism is asked for."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(call, unknown) for call in self._calls]


@dataclass(frozen=True, kw_only=True)
class Library:
    """All pairs of a split, encoded, in the cluster's object store, which spills to disk what does not fit.

    Attributes:
        blocks: references to tables of PAIR_SCHEMA.
        places: (block, row) of each pair, in the order of their keys.
        labels: what the masks hold.
    """

    blocks: tuple[Any, ...]
    places: tuple[tuple[int, int], ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.places)

    def pair(self, index: int) -> tuple[Pixels, Pixels]:
        """Picture (H, W, 3) and mask (H, W) of one pair."""
        block, row = self.places[index]
        table = ray.get(self.blocks[block])
        return decode(table["image"][row].as_py(), table["mask"][row].as_py(), self.labels)


def _be_quiet() -> None:
    """Let Ray Data say nothing of its own: what fails is raised, and how far a run is shows elsewhere."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"ray\.data")
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def load(pairs: Sequence[Pair], labels: Labels) -> Library:
    """Fetch every pair and look at it.

    Raises:
        ConfigError: pairs that cannot be trained on, by name, and what is wrong with each.
    """
    _be_quiet()
    chunks = [pairs[i : i + _PAIRS_A_TASK] for i in range(0, len(pairs), _PAIRS_A_TASK)]
    calls = [partial(_fetch, chunk, labels) for chunk in chunks]
    dataset = ray.data.read_datasource(
        Tasks(calls), num_cpus=0, concurrency=_FETCHERS, override_num_blocks=len(calls)
    ).materialize()
    blocks = tuple(block.ref for bundle in dataset.iter_internal_ref_bundles() for block in bundle.blocks)
    rows = sorted(row for number, block in enumerate(blocks) for row in ray.get(_summary.remote(block, number)))
    problems = [f"{key}: {problem}" for key, problem, *_ in rows if problem]
    if problems:
        shown = "\n  ".join(problems[:_PROBLEMS_SHOWN])
        raise ConfigError(f"{len(problems)} of {len(pairs)} labelled pictures cannot be used:\n  {shown}")
    return Library(blocks=blocks, places=tuple((block, row) for *_, block, row in rows), labels=labels)


def _fetch(pairs: Sequence[Pair], labels: Labels) -> Iterator[pa.Table]:
    yield fetch(pairs, labels)


@ray.remote(num_cpus=0)
def _summary(table: pa.Table, block: int) -> list[tuple[str, str, int, int]]:
    """(key, problem or "", block, row) of each pair."""
    keys, problems = table["key"].to_pylist(), table["problem"].to_pylist()
    return [(key, problem or "", block, row) for row, (key, problem) in enumerate(zip(keys, problems, strict=True))]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker needs: everything large is a reference into the object store.

    Attributes:
        model: reference to the SegmentationModel to begin with.
        how: the model's preprocessing.
        recipe: how it is trained.
        training: the pairs to train on.
        validation: the pairs that choose the best checkpoint, or None.
        board: the Board actor.
        threads: of the network on a CPU.
    """

    model: Any
    how: Preprocessing
    recipe: Recipe
    training: Library
    validation: Library | None
    board: Any
    threads: int


def fit(
    model: SegmentationModel,
    recipe: Recipe,
    training: Library,
    validation: Library | None,
    *,
    folder: str,
    workers: tuple[int, int],
    max_failures: int,
) -> tuple[bytes, dict[str, Any]]:
    """Train on the cluster, from the last checkpoint below `folder` where there is one.

    Returns:
        the state of the best checkpoint, as `loop.restore` takes it, and the metrics that were reported with it.

    Raises:
        RunError: the cluster has no room, or training failed more than `max_failures` times.
    """
    each = share_of([node["Resources"] for node in ray.nodes() if node["Alive"]], *workers)  # type: ignore[no-untyped-call]
    board: Any = ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()
    job = Job(
        model=ray.put(model),
        how=model.card.preprocessing,
        recipe=recipe,
        training=training,
        validation=validation,
        board=board,
        threads=each.cpus,
    )
    parent, _, name = folder.rpartition("/")
    filesystem, path = storage.arrow_filesystem(parent)
    trainer = TorchTrainer(
        _work,
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
        try:
            with every(_TICK_SECONDS, lambda: watch.show(ray.get(board.take.remote()))):
                result = trainer.fit()
            watch.show(ray.get(board.take.remote()))
        except ray.train.TrainingFailedError as error:
            raise RunError(f"training failed: {_cause(error)}") from error
    checkpoint, metrics = max(result.best_checkpoints or (), key=lambda found: found[1]["score"])
    with checkpoint.as_directory() as local:
        return (Path(local) / STATE_FILE).read_bytes(), metrics


def _cause(error: Exception) -> str:
    failures = getattr(error, "worker_failures", {})
    first = next(iter(failures.values()), error)
    cause = root_cause(first)
    return f"{type(cause).__name__}: {cause}"


def _work(config: dict[str, Any]) -> None:
    """What every worker runs: the plain loop, on its share of each batch."""
    job: Job = config["job"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_num_threads(job.threads)
    model: SegmentationModel = ray.get(job.model)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.to(device)
    report = _Report(job, model, rank, world)
    train(
        model,
        lambda start: _batches(job, start, rank, world),
        job.recipe,
        checkpoint=_latest_state(),
        on_step=report.on_step,
        on_checkpoint=report.on_checkpoint,
    )


def _latest_state() -> bytes | None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return (Path(folder) / STATE_FILE).read_bytes()


class _Report:
    """Tells the driver of steps, and storage of checkpoints."""

    def __init__(self, job: Job, model: SegmentationModel, rank: int, world: int) -> None:
        self._job, self._model, self._rank, self._world = job, model, rank, world
        self._losses: list[float] = []
        self._step = 0

    def on_step(self, progress: Progress) -> None:
        self._losses.append(progress.loss)
        self._step = progress.step
        self._note({"step": progress.step, "loss": progress.loss, "learning_rate": progress.learning_rate})

    def on_checkpoint(self, state: bytes) -> None:
        """All workers meet here; the first has the checkpoint put."""
        loss = float(np.mean(self._losses))
        metrics = {"step": self._step, "loss": loss, "score": -loss}
        self._losses.clear()
        if self._job.validation is not None:
            mine = range(self._rank, len(self._job.validation), self._world)
            iou = mean_iou(self._model, map(self._job.validation.pair, mine))
            metrics |= {"mean_iou": iou, "score": iou}
            self._note({"step": self._step, "mean_iou": iou})
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if self._rank == 0:
                (Path(folder) / STATE_FILE).write_bytes(state)
                checkpoint = Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=checkpoint)

    def _note(self, note: Note) -> None:
        if self._rank == 0:
            self._job.board.put.remote(note)


def _batches(job: Job, start: int, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor]]:
    """This worker's share of every batch from step `start` on, made by Ray Data a little ahead."""
    steps = range(start, job.recipe.iterations)
    if not steps:
        return
    made: dict[str, Any] = {
        "training": job.training,
        "how": job.how,
        "recipe": job.recipe,
        "rank": rank,
        "world": world,
    }
    calls = [partial(_examples, steps[i : i + _STEPS_A_TASK], **made) for i in range(0, len(steps), _STEPS_A_TASK)]
    _be_quiet()
    options = DataContext.get_current().execution_options
    options.preserve_order = True
    options.resource_limits = ExecutionResources(object_store_memory=_READ_AHEAD_BYTES)
    dataset = ray.data.read_datasource(Tasks(calls), num_cpus=0, concurrency=2, override_num_blocks=len(calls))
    size, crop = len(share(0, job.recipe, rank, world)), job.recipe.crop
    for table in dataset.iter_batches(batch_size=size, batch_format="pyarrow", prefetch_batches=2):
        rows = zip(table["image"].to_pylist(), table["mask"].to_pylist(), strict=True)
        yield collate([(_array(image, (crop, crop, 3)), _array(mask, (crop, crop))) for image, mask in rows], job.how)


def _examples(
    steps: range, training: Library, how: Preprocessing, recipe: Recipe, rank: int, world: int
) -> Iterator[pa.Table]:
    """A table for each step with the raw pixels of its augmented pictures and masks."""
    for draws in (share(step, recipe, rank, world) for step in steps):
        made = [
            example(lambda draw: training.pair(shuffled(draw, len(training), recipe.seed)), draw, how, recipe)
            for draw in draws
        ]
        yield pa.table({"image": [image.tobytes() for image, _ in made], "mask": [mask.tobytes() for _, mask in made]})


def _array(pixels: bytes, shape: tuple[int, ...]) -> Pixels:
    return np.frombuffer(pixels, np.uint8).reshape(shape)
