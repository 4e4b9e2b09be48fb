"""Training on Ray: the pairs through Ray Data, the plain loop in the workers of a TorchTrainer."""

import itertools
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
from pipeline.errors import ConfigError, RunError
from pipeline.models.card import Preprocessing
from pipeline.models.deeplab import SegmentationModel
from pipeline.training.background import in_background
from pipeline.training.data import collate, example, from_table, share, shuffled, to_table
from pipeline.training.loop import Progress, train
from pipeline.training.loss import class_weights
from pipeline.training.pairs import Labels, Pair, Pixels, decode, fetch
from pipeline.training.recipe import Recipe
from pipeline.training.validation import mean_iou
from pipeline.training.watch import Board, Note, Watch
from pipeline.training.workers import share_of

STATE_FILE = "state.pt"
_PAIRS_A_TASK = 32
_STEPS_A_TASK = 8
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
        pixels: of each class, in all masks.
        labels: what the masks hold.
    """

    blocks: tuple[Any, ...]
    places: tuple[tuple[int, int], ...]
    pixels: tuple[int, ...]
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
    cpus = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
    dataset = ray.data.read_datasource(
        Tasks(calls), num_cpus=0, concurrency=max(cpus, 2), override_num_blocks=len(calls)
    ).materialize()
    blocks = tuple(block.ref for bundle in dataset.iter_internal_ref_bundles() for block in bundle.blocks)
    found = sorted(itertools.chain.from_iterable(ray.get([_notes.remote(*item) for item in enumerate(blocks)])))
    problems = [f"{note.key}: {note.problem}" for note in found if note.problem]
    if problems:
        shown = "\n  ".join(problems[:_PROBLEMS_SHOWN])
        raise ConfigError(f"{len(problems)} of {len(pairs)} labelled pictures cannot be used:\n  {shown}")
    return Library(
        blocks=blocks,
        places=tuple((note.block, note.row) for note in found),
        pixels=tuple(map(sum, zip(*(note.pixels for note in found), strict=True))),
        labels=labels,
    )


def _fetch(pairs: Sequence[Pair], labels: Labels) -> Iterator[pa.Table]:
    yield fetch(pairs, labels)


class _Note(NamedTuple):
    """What is known of one pair without its bytes."""

    key: str
    block: int
    row: int
    pixels: list[int]
    problem: str | None


@ray.remote(num_cpus=0)
def _notes(block: int, table: pa.Table) -> list[_Note]:
    columns = (table[name].to_pylist() for name in ("key", "pixels", "problem"))
    return [
        _Note(key, block, row, pixels or [], problem)
        for row, (key, pixels, problem) in enumerate(zip(*columns, strict=True))
    ]


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
        class_weights=class_weights(job.training.pixels, job.recipe.class_balance).to(device),
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
        self._note(asdict(progress) | {"time": time.time()})

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
    size = len(share(0, job.recipe, rank, world))
    for table in dataset.iter_batches(batch_size=size, batch_format="pyarrow", prefetch_batches=2):
        yield collate(from_table(table, job.recipe.crop), job.how)


def _examples(
    steps: range, training: Library, how: Preprocessing, recipe: Recipe, rank: int, world: int
) -> Iterator[pa.Table]:
    """A table for each step with the augmented pictures and masks of its share."""

    def sample(draw: int) -> tuple[Pixels, Pixels]:
        return training.pair(shuffled(draw, len(training), recipe.seed))

    for step in steps:
        yield to_table([example(sample, draw, how, recipe) for draw in share(step, recipe, rank, world)])
