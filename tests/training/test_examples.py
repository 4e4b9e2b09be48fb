"""Examples by seed and draw alone: the same whenever and wherever they are made."""

from collections import Counter

import numpy as np

from pipeline.models.preprocessing import Preprocessing
from pipeline.training.augment import Pixels
from pipeline.training.examples import example
from pipeline.training.recipe import Recipe

HOW = Preprocessing(channels="RGB", mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0))
PICTURES = 5


def sample(draw: int) -> tuple[Pixels, Pixels]:
    """A picture of one label, by which it is known again."""
    label = draw % PICTURES
    return np.full((80, 80, 3), 10 * label, np.uint8), np.full((80, 80), label, np.uint8)


def made(recipe: Recipe, draw: int) -> tuple[Pixels, Pixels]:
    return example(sample, draw, HOW, recipe)


def test_without_cut_mix_an_example_is_of_one_picture() -> None:
    recipe = Recipe(crop=65, scale_min=1.0, scale_max=1.0)
    for draw in range(20):
        image, mask = made(recipe, draw)
        assert set(np.unique(mask)) == {draw % PICTURES}
        assert set(np.unique(image)) == {10 * (draw % PICTURES)}


def test_with_cut_mix_it_is_of_two_as_often_as_the_recipe_says() -> None:
    recipe = Recipe(iterations=100, batch=4, crop=65, scale_min=1.0, scale_max=1.0, cut_mix=0.5)
    partners: Counter[int] = Counter()
    for draw in range(400):
        image, mask = made(recipe, draw)
        np.testing.assert_array_equal(image[..., 0], 10 * mask)
        labels = set(np.unique(mask).tolist())
        assert draw % PICTURES in labels  # a window leaves a part of the picture itself
        assert len(labels) <= 2
        partners.update(labels - {draw % PICTURES})
    # of the half that is mixed, a fifth meets its own picture: 160 of 400, 8 standard deviations either way
    assert 80 < partners.total() < 240
    assert set(partners) == set(range(PICTURES))


def test_an_example_is_the_same_whenever_it_is_made() -> None:
    recipe = Recipe(crop=65, cut_mix=1.0, colour_jitter=0.4, seed=3)
    for draw in (0, 7):
        for first, second in zip(made(recipe, draw), made(recipe, draw), strict=True):
            np.testing.assert_array_equal(first, second)
