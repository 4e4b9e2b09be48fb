"""A worker's share of every batch, made ahead of it by processes of their own."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from pipeline.data.labelled.pairs import Pixels
from pipeline.models.preprocessing import Preprocessing
from pipeline.runtime.errors import get
from pipeline.runtime.labelled import LabelledDataset
from pipeline.training.examples import collate, example, share, shuffled
from pipeline.training.recipe import Recipe

AHEAD = 8
"""Batches that each loader is asked for before the worker needs them."""

_GPU_LOADERS = 4


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Makes the batches of process `rank` of `world`, from any step on.

    Attributes:
        dataset: the pictures.
        how: the model's preprocessing.
        recipe: batch, crop, augmentation and seed.
        rank: which process this is.
        world: how many share each batch.
        loaders: the processes that make the batches, on this machine. They hold no CPU: it is the worker's.
    """

    dataset: LabelledDataset
    how: Preprocessing
    recipe: Recipe
    rank: int
    world: int
    loaders: int = 1

    def __call__(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Give pictures (N, 3, crop, crop) float32 and labels (N, crop, crop) uint8 of step `start` and all later."""
        loaders = [_start_loader(self) for _ in range(self.loaders)]
        ahead: deque[Any] = deque()
        for step in range(start, self.recipe.iterations):
            ahead.append(loaders[step % len(loaders)].examples.remote(step))
            if len(ahead) > AHEAD * len(loaders):
                yield self._batch(ahead.popleft())
        while ahead:
            yield self._batch(ahead.popleft())

    def _batch(self, made: Any) -> tuple[Tensor, Tensor]:
        images, masks = map(np.array, get(made))  # copied: what Ray keeps cannot be written to, and tensors can
        return collate(list(zip(images, masks, strict=True)), self.how)


class Loader:
    """Makes the batches it is asked for."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def examples(self, step: int) -> tuple[Pixels, Pixels]:
        """Make pictures (N, crop, crop, 3) and masks (N, crop, crop), augmented: the process's share of a step."""
        recipe, how = self._batches.recipe, self._batches.how
        draws = share(step, recipe, self._batches.rank, self._batches.world)
        images, masks = zip(*(example(self._sample, n, how, recipe) for n in draws), strict=True)
        return np.stack(images), np.stack(masks)

    def _sample(self, draw: int) -> tuple[Pixels, Pixels]:
        dataset = self._batches.dataset
        return dataset.pair(shuffled(draw, len(dataset), self._batches.recipe.seed))


def loaders_beside(device: torch.device) -> int:
    """Count the loaders a worker needs: a GPU trains on what several cores augment, a CPU on what one does."""
    return _GPU_LOADERS if device.type == "cuda" else 1


def _start_loader(batches: Batches) -> Any:
    """Start a Loader on this machine; one that is lost is replaced, and what it was asked for is made again."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Loader)
    return actor.options(scheduling_strategy=here).remote(batches)
