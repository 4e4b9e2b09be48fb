"""Batches of augmented examples, decided by seed and step alone, so that a resumed run sees what it would have seen."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from pipeline.models.card import Preprocessing
from pipeline.models.deeplab import preprocess
from pipeline.training.augment import Colour, Pixels, augment
from pipeline.training.recipe import Recipe

Sample = Callable[[int], tuple[Pixels, Pixels]]


def batches(sample: Sample, how: Preprocessing, recipe: Recipe, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a run from step `start` on.

    Args:
        sample: gives picture (H, W, 3) and mask (H, W), both uint8, for the n-th draw of the run, n = 0, 1, ...
        how: the model's preprocessing.
        recipe: batch, crop, augmentation, seed and number of steps.
        start: the first step.

    Yields:
        Pictures (N, 3, crop, crop) float32 and labels (N, crop, crop) uint8.
    """
    fill = mean_colour(how)
    for step in range(start, recipe.iterations):
        images, masks = [], []
        for draw in range(step * recipe.batch, (step + 1) * recipe.batch):
            image, mask = augment(*sample(draw), recipe, fill, np.random.default_rng((recipe.seed, draw)))
            images.append(preprocess(image, how))
            masks.append(torch.from_numpy(mask))
        yield torch.stack(images), torch.stack(masks)


def mean_colour(how: Preprocessing) -> Colour:
    """The RGB colour that preprocessing turns into zero, to the nearest whole numbers."""
    by_channel = dict(zip(how.channels, how.mean, strict=True))
    return round(by_channel["R"]), round(by_channel["G"]), round(by_channel["B"])
