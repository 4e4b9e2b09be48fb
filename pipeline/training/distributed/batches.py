"""A worker's share of every batch, made ahead of it by processes of their own."""

import time
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
from pipeline.errors import RunError
from pipeline.models.preprocessing import Preprocessing
from pipeline.runtime.errors import root_cause
from pipeline.runtime.labelled import LabelledDataset
from pipeline.training.examples import collate, example, share, shuffled
from pipeline.training.recipe import Recipe

AHEAD = 8
"""Batches that each loader is asked for before the worker needs them."""

_GPU_LOADERS = 4

_TRIES = 3
"""Processes that a step may cost before its pictures are given up; the others may be lost by chance."""

_PAUSE_SECONDS = 1.0
"""Before a process is replaced: where it is lost with its machine, so is the worker by then."""


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
        loaders = [_Process(self) for _ in range(self.loaders)]
        ahead = AHEAD * len(loaders)
        for step in range(start, self.recipe.iterations + ahead):
            if step < self.recipe.iterations:
                loaders[step % len(loaders)].ask(step)
            if step - ahead >= start:
                made = loaders[(step - ahead) % len(loaders)].take()
                images, masks = map(np.array, made)  # copied: what Ray keeps cannot be written to, and tensors can
                yield collate(list(zip(images, masks, strict=True)), self.how)

    def pictures(self, step: int) -> list[int]:
        """Give the index in the dataset of each picture that is in this process's share of a step."""
        return [self.picture(draw) for draw in share(step, self.recipe, self.rank, self.world)]

    def picture(self, draw: int) -> int:
        """Give the index in the dataset of a draw."""
        return shuffled(draw, len(self.dataset), self.recipe.seed)


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
        return self._batches.dataset.pair(self._batches.picture(draw))


class _Process:
    """A Loader in a process on this machine; one that is lost is replaced, and what it was asked for is made again."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._loader = _start_loader(batches)
        self._asked: deque[tuple[int, Any]] = deque()  # steps, and references to what comes of them

    def ask(self, step: int) -> None:
        """Have the share of a step made, behind those that were asked for before."""
        self._asked.append((step, self._loader.examples.remote(step)))

    def take(self) -> tuple[Pixels, Pixels]:
        """Wait for what was asked for first. It is made first, so that whatever ends the process ends it there.

        Raises:
            RunError: it has cost several processes.
        """
        lost = 0
        while True:
            step, made = self._asked[0]
            try:
                examples: tuple[Pixels, Pixels] = ray.get(made)
            except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError):
                lost += 1
                if lost == _TRIES:
                    raise self._given_up(step) from None
                self._replace()
            except Exception as error:
                raise root_cause(error) from None
            else:
                self._asked.popleft()
                return examples

    def _replace(self) -> None:
        time.sleep(_PAUSE_SECONDS)
        self._loader = _start_loader(self._batches)
        self._asked = deque((step, self._loader.examples.remote(step)) for step, _ in self._asked)

    def _given_up(self, step: int) -> RunError:
        dataset = self._batches.dataset
        places = [dataset.positions[index] for index in self._batches.pictures(step)]
        keys = [ray.get(dataset.blocks[block])["key"][row].as_py() for block, row in places]
        mixed = " or one that CutMix shows in them," if self._batches.recipe.cut_mix else ""
        return RunError(
            f"{_TRIES} processes died while they made the pictures of step {step + 1}: {', '.join(keys)}; one of them,"
            f"{mixed} or all together take more memory than there is, or end what decodes them: leave that picture "
            "out, or give a machine more memory or a smaller recipe.batch"
        )


def loaders_beside(device: torch.device) -> int:
    """Count the loaders a worker needs: a GPU trains on what several cores augment, a CPU on what one does."""
    return _GPU_LOADERS if device.type == "cuda" else 1


def _start_loader(batches: Batches) -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(Loader).options(scheduling_strategy=here).remote(batches)
