"""A worker's batches are made beside its steps, a few steps at a time."""

import threading

import numpy as np
import pytest
import ray
from training import Training

from pipeline.errors import ConfigError
from pipeline.models.card import LITE_PREPROCESSING
from pipeline.training.data import batches as plain_batches
from pipeline.training.data import shuffled
from pipeline.training.distributed.batches import Batches, stretch_steps
from pipeline.training.recipe import Recipe

RECIPE = Recipe(iterations=40, batch=2, crop=33)


class Pairs:
    """A library of three pictures in one colour each."""

    def __len__(self):
        return 3

    def pair(self, index):
        return np.full((40, 50, 3), 50 * index, np.uint8), np.full((40, 50), index, np.uint8)


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [
        (RECIPE, 64),
        (Recipe(batch=10, crop=321), 16),
        (Recipe(batch=64, crop=513), 1),
        (Recipe(batch=20, crop=321), 8),
    ],
)
def test_a_stretch_is_few_steps_and_few_bytes(recipe, steps):
    assert stretch_steps(recipe, 0, 1) == steps


@pytest.fixture
def made(monkeypatch):
    """The first step of each stretch that was made, without Ray; and whether a further one has begun."""
    made, another = [], threading.Event()
    plain = Batches._make

    def make(self, steps):
        made.append(steps.start)
        if len(made) > 1:
            another.set()
        return plain(self, steps)

    monkeypatch.setattr(Batches, "_make", make)
    monkeypatch.setattr("pipeline.training.distributed.batches._STRETCH_STEPS", 16)
    monkeypatch.setattr("pipeline.training.distributed.batches.tables", lambda calls, _: [next(c()) for c in calls])
    monkeypatch.setattr(ray, "wait", lambda *_, **__: None)
    monkeypatch.setattr(ray, "get", lambda table: table)
    return made, another


def test_the_next_stretch_is_made_while_one_is_trained_on(made):
    starts, another = made
    found = Batches(library=Pairs(), how=LITE_PREPROCESSING, recipe=RECIPE, rank=0, world=1)(0)
    next(found)
    assert another.wait(10)
    assert starts == [0, 16]
    assert sum(1 for _ in found) == 39
    assert starts == [0, 16, 32]


def test_they_are_the_batches_of_the_plain_loop(made):
    found = Batches(library=Pairs(), how=LITE_PREPROCESSING, recipe=RECIPE, rank=0, world=1)(3)
    expected = plain_batches(lambda n: Pairs().pair(shuffled(n, 3, 0)), LITE_PREPROCESSING, RECIPE, 3)
    for (images, labels), (images_wanted, labels_wanted) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(images, images_wanted)
        np.testing.assert_array_equal(labels, labels_wanted)


def test_the_benchmark_refuses_a_measurement_without_the_making_of_batches():
    given = {"data": "d", "data_format": "camvid"}
    assert Training(**given).recipe.iterations >= 5 * 64
    with pytest.raises(ConfigError, match="iterations is 319; give 320 at least, so that 4 stretches"):
        Training(**given, recipe=Recipe(iterations=319, batch=2, crop=33))
    with pytest.raises(ConfigError, match="3 workers cannot share a batch of 2"):
        Training(**given, workers=3, recipe=Recipe(iterations=320, batch=2, crop=33))
