"""Make batches of augmented examples by seed and step alone, so that a resumed run sees what it would have seen."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from pipeline.models.preprocessing import Preprocessing, preprocess
from pipeline.training.augment import Colour, Pixels, augment, cut_mix
from pipeline.training.recipe import Recipe

Sample = Callable[[int], tuple[Pixels, Pixels]]


def batches(sample: Sample, how: Preprocessing, recipe: Recipe, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of a run from step `start` on.

    Args:
        sample: gives picture (H, W, 3) and mask (H, W), both uint8, for the n-th draw of the run, n = 0, 1, ...
        how: the model's preprocessing.
        recipe: batch, crop, augmentation, seed and number of steps.
        start: the first step.

    Yields:
        Pictures (N, 3, crop, crop) float32 and labels (N, crop, crop) uint8.
    """
    for step in range(start, recipe.iterations):
        yield collate([example(sample, draw, how, recipe) for draw in share(step, recipe)], how)


def share(step: int, recipe: Recipe, rank: int = 0, world: int = 1) -> range:
    """Return the draws that process `rank` of `world` makes for one step; together they are the step's batch."""
    first, last = (recipe.batch * r // world for r in (rank, rank + 1))
    return range(step * recipe.batch + first, step * recipe.batch + last)


def example(sample: Sample, draw: int, how: Preprocessing, recipe: Recipe) -> tuple[Pixels, Pixels]:
    """Make the augmented picture (crop, crop, 3) and mask (crop, crop) of one draw, both uint8."""
    fill, rng = mean_colour(how), np.random.default_rng((recipe.seed, draw))
    made = augment(*sample(draw), recipe, fill, rng)
    if not recipe.cut_mix or rng.uniform() >= recipe.cut_mix:
        return made
    other = augment(*sample(int(rng.integers(recipe.batch * recipe.iterations))), recipe, fill, rng)
    return cut_mix(made, other, rng)


def collate(examples: list[tuple[Pixels, Pixels]], how: Preprocessing) -> tuple[Tensor, Tensor]:
    """Stack examples: pictures (N, 3, crop, crop) float32, preprocessed, and labels (N, crop, crop) uint8."""
    images = [preprocess(image, how) for image, _ in examples]
    return torch.stack(images), torch.stack([torch.from_numpy(mask) for _, mask in examples])


def shuffled(draw: int, count: int, seed: int) -> int:
    """Choose which of `count` pairs the n-th draw takes: each epoch takes all of them, in an order of its own."""
    epoch, place = divmod(draw, count)
    return int(np.random.default_rng((seed, epoch)).permutation(count)[place])


def mean_colour(how: Preprocessing) -> Colour:
    """Return the RGB colour that preprocessing turns into zero, to the nearest whole numbers."""
    by_channel = dict(zip(how.channels, how.mean, strict=True))
    return round(by_channel["R"]), round(by_channel["G"]), round(by_channel["B"])
