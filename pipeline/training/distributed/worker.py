"""The work of every worker of a run: the plain loop on its share of each batch, and reports of it."""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.collective
import ray.train.torch
import torch
from torch import Tensor

from pipeline import storage
from pipeline.models.deeplab import SegmentationModel
from pipeline.runtime.labelled import LabelledDataset
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.distributed.batches import Batches, loaders_beside
from pipeline.training.loop import StepResult, train
from pipeline.training.loss import class_weights
from pipeline.training.recipe import Recipe
from pipeline.training.training_log import Report
from pipeline.training.validation import mean_iou

_NOTICE_STEPS = 5
"""Steps after which workers ask for a notice again, all together; a spot machine goes two minutes after its own."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Holds all that a worker needs; everything large is a reference into the object store.

    Attributes:
        model: reference to the SegmentationModel to begin with.
        recipe: how it is trained.
        training: the pairs to train on.
        validation: the pairs that choose the best checkpoint, or None.
        reports: the ReportQueue actor.
        threads: of the network on a CPU.
        checkpoints: of the run.
        retry_seconds: for which a storage that does not answer is asked again.
    """

    model: Any
    recipe: Recipe
    training: LabelledDataset
    validation: LabelledDataset | None
    reports: Any
    threads: int
    checkpoints: Checkpoints
    retry_seconds: float


def work(config: dict[str, Any]) -> None:
    """Run the plain loop on this worker's share of each batch."""
    job: Job = config["job"]
    with storage.retrying(job.retry_seconds):
        _train(job)


def _train(job: Job) -> None:
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    _be_deterministic()
    torch.set_num_threads(job.threads)
    model: SegmentationModel = ray.get(job.model)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.to(device)
    reporter = _Reporter(job, model, rank, world)
    batches = Batches(
        dataset=job.training,
        how=model.card.preprocessing,
        recipe=job.recipe,
        rank=rank,
        world=world,
        loaders=loaders_beside(device),
    )

    def batches_from(start: int) -> Iterator[tuple[Tensor, Tensor]]:
        reporter.on_start(start)
        return batches(start)

    train(
        model,
        batches_from,
        job.recipe,
        class_weights=class_weights(job.training.pixels, job.recipe.class_balance).to(device),
        checkpoint=_common_state(job.checkpoints, reporter),
        on_step=reporter.on_step,
        on_checkpoint=reporter.on_checkpoint,
        must_save=reporter.must_save,
    )


def _be_deterministic() -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # debugging; costs a fifth


def _common_state(checkpoints: Checkpoints, reporter: "_Reporter") -> bytes | None:
    """Read the state that all workers begin with, which the first one chooses; None for a run that begins."""
    newest = checkpoints.newest(reporter.tell) if reporter.is_first else None
    step = ray.train.collective.broadcast_from_rank_zero(newest and newest.note.step)
    if step is None:
        return None
    return newest.state if newest else checkpoints.read(step).state


class _Reporter:
    """Reports steps to the driver, and puts checkpoints."""

    def __init__(self, job: Job, model: SegmentationModel, rank: int, world: int) -> None:
        self._job, self._model, self._rank, self._world = job, model, rank, world
        self._losses: list[float] = []
        self._step = 0
        self._leaving: list[str] = []  # machines that have got their notice
        self._is_hasty = False  # whether the next checkpoint is put before one of them goes

    def on_start(self, step: int) -> None:
        self._report({"begun_at": step})

    def on_step(self, result: StepResult) -> None:
        self._losses.append(result.loss)
        self._step = result.step
        self._report(asdict(result) | {"time": time.time()})

    @property
    def is_first(self) -> bool:
        """Tell whether this is the worker that reports, and that puts what all have in common."""
        return self._rank == 0

    def tell(self, line: str) -> None:
        """Have the driver say a line."""
        self._report(line)

    def must_save(self, step: int) -> bool:
        """Tell whether a machine of the run has got notice that it goes, as a spot machine does: once for each."""
        if step % _NOTICE_STEPS:
            return False
        notice = ray.train.get_preemption_info()
        leaving = notice.preempted_node_ids if notice else []
        self._is_hasty = not set(leaving) <= set(self._leaving)
        self._leaving = leaving
        if self._is_hasty:
            self.tell(f"a machine of the run goes soon: a checkpoint is put at step {step}")
        return self._is_hasty

    def on_checkpoint(self, state: bytes) -> None:
        """Let the first worker put the checkpoint, which the others wait for: at the next step they would time out.

        Before a machine goes there is no time for the validation pictures.
        """
        loss, iou = float(np.mean(self._losses)), None
        self._losses.clear()
        is_hasty, self._is_hasty = self._is_hasty, False
        if self._job.validation is not None and not is_hasty:
            mine = range(self._rank, len(self._job.validation), self._world)
            iou = mean_iou(self._model, map(self._job.validation.pair, mine))
            self._report({"step": self._step, "mean_iou": iou})
        if self.is_first:
            self._job.checkpoints.put(state, step=self._step, loss=loss, mean_iou=iou)
        ray.train.collective.barrier()

    def _report(self, report: Report) -> None:
        if self.is_first:
            self._job.reports.put.remote(report)
