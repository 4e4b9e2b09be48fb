"""A worker's share of every batch, made by Ray Data ahead of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from torch import Tensor

from pipeline.models.card import Preprocessing
from pipeline.training.background import in_background
from pipeline.training.data import collate, example, from_table, share, shuffled, to_table
from pipeline.training.distributed.library import Library
from pipeline.training.distributed.tasks import tables
from pipeline.training.pairs import Pixels
from pipeline.training.recipe import Recipe

_STRETCH_BYTES = 64 * 1024 * 1024
_STRETCH_STEPS = 64
_TASKS_AT_ONCE = 2


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The batches of process `rank` of `world`, from any step on.

    Attributes:
        library: the pictures.
        how: the model's preprocessing.
        recipe: batch, crop, augmentation and seed.
        rank: which process this is.
        world: how many share each batch.
    """

    library: Library
    how: Preprocessing
    recipe: Recipe
    rank: int
    world: int

    def __call__(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pictures (N, 3, crop, crop) float32 and labels (N, crop, crop) uint8 of step `start` and all later ones.

        They are made in stretches of some steps, the next one while this one is trained on; only for the first of them
        does training wait. Ray Data would make one stream of them all, but its scheduling loop does not sleep while the
        reader holds it back: it takes a core.
        """
        stretches = self._stretches(start)
        ahead = in_background(partial(self._make, stretches[0])) if stretches else None
        for following in [*stretches[1:], None]:
            if ahead is None:
                return
            made = ahead.result()
            ahead = in_background(partial(self._make, following)) if following else None
            for table in made:
                yield collate(from_table(ray.get(table), self.recipe.crop), self.how)

    def _stretches(self, start: int) -> list[range]:
        length = stretch_steps(self.recipe, self.rank, self.world)
        steps = range(start, self.recipe.iterations)
        return [steps[first : first + length] for first in range(0, len(steps), length)]

    def _make(self, steps: range) -> list[Any]:
        """References to a table for each step, all on this machine."""
        made = tables([partial(self._examples, step) for step in steps], _TASKS_AT_ONCE)
        ray.wait(made, num_returns=len(made), fetch_local=True)
        return made

    def _examples(self, step: int) -> Iterator[pa.Table]:
        """The augmented pictures and masks of this process's share of a step."""
        draws = share(step, self.recipe, self.rank, self.world)
        yield to_table([example(self._sample, draw, self.how, self.recipe) for draw in draws])

    def _sample(self, draw: int) -> tuple[Pixels, Pixels]:
        return self.library.pair(shuffled(draw, len(self.library), self.recipe.seed))


def stretch_steps(recipe: Recipe, rank: int, world: int) -> int:
    """How many steps are made in one go: few beside a run's, and enough to be worth the seconds it takes to begin."""
    a_step = len(share(0, recipe, rank, world)) * recipe.crop**2 * 4  # bytes: R, G, B, label
    return min(max(_STRETCH_BYTES // a_step, 1), _STRETCH_STEPS)
