"""A worker's batches are made beside its steps, by processes that may be lost."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from benchmarks.training import Training
from pipeline.errors import ConfigError, RunError
from pipeline.labels import Labels
from pipeline.models.preprocessing import LITE_PREPROCESSING
from pipeline.runtime.labelled import LabelledDataset
from pipeline.training.distributed import batches as distributed
from pipeline.training.distributed.batches import AHEAD, Batches, Loader
from pipeline.training.examples import batches as plain_batches
from pipeline.training.examples import shuffled
from pipeline.training.recipe import Recipe

RECIPE = Recipe(iterations=40, batch=2, crop=33)


def pairs(deadly: Path | None = None):
    """Three pictures in one colour each; the first process that asks for the second of them is killed, if told so."""

    class Pairs:  # within, so that it travels to other processes by its code: they cannot import tests
        def __len__(self):
            return 3

        def pair(self, index):
            if deadly and index == 1 and not deadly.exists():
                deadly.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return np.full((40, 50, 3), 50 * index, np.uint8), np.full((40, 50), index, np.uint8)

    return Pairs()


def batches(dataset, **changes):
    given = {"dataset": dataset, "how": LITE_PREPROCESSING, "recipe": RECIPE, "rank": 0, "world": 1}
    return Batches(**given | changes)


def expect_same(found, expected):
    for (images, labels), (images_wanted, labels_wanted) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(images, images_wanted)
        np.testing.assert_array_equal(labels, labels_wanted)


def plain(start):
    return plain_batches(lambda n: pairs().pair(shuffled(n, 3, 0)), LITE_PREPROCESSING, RECIPE, start)


@pytest.mark.parametrize(("loaders", "start"), [(2, 3), (1, RECIPE.iterations)])
def test_they_are_the_batches_of_the_plain_loop(cluster, loaders, start):
    expect_same(batches(pairs(), loaders=loaders)(start), plain(start))


def test_a_lost_loader_costs_no_batch(cluster, tmp_path: Path):
    mark = tmp_path / "killed"
    expect_same(batches(pairs(mark))(0), plain(0))
    assert mark.exists()


@pytest.mark.parametrize(
    ("cut_mix", "told"),
    [
        (0.0, "2: b, d; one of them, or all"),
        (1.0, "(1: c, a|2: b, d); one of them, or one that CutMix shows in them,"),
    ],
)
def test_pictures_that_take_loaders_down_end_it_and_are_named(cluster, monkeypatch, cut_mix, told):
    class Deadly(LabelledDataset):
        def pair(self, index):
            if index == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return np.full((40, 50, 3), index, np.uint8), np.full((40, 50), index, np.uint8)

    monkeypatch.setattr(distributed, "_TRIES", 2)
    dataset = Deadly(
        blocks=(ray.put(pa.table({"key": ["a", "b", "c", "d"]})),),
        positions=tuple((0, row) for row in range(4)),
        pixels=(1, 1),
        labels=Labels(classes=("sky", "tree")),
    )
    with pytest.raises(RunError, match=f"^2 processes died while they made the pictures of step {told}"):
        list(batches(dataset, recipe=replace(RECIPE, iterations=2, cut_mix=cut_mix))(0))


def test_processes_share_each_batch():
    both = [Loader(batches(pairs(), rank=rank, world=2)).examples(5) for rank in range(2)]
    whole = Loader(batches(pairs())).examples(5)
    for part in range(2):
        np.testing.assert_array_equal(np.concatenate([share[part] for share in both]), whole[part])


def test_the_benchmark_refuses_a_measurement_without_the_making_of_batches(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    given = {"data": "d", "data_format": "camvid"}
    assert Training(**given).recipe.iterations >= 10 * AHEAD
    with pytest.raises(ConfigError, match="iterations is 79; give 80 at least: the job makes 8 batches ahead"):
        Training(**given, recipe=Recipe(iterations=79, batch=2, crop=33))
    with pytest.raises(ConfigError, match="3 workers cannot share a batch of 2"):
        Training(**given, workers=3, recipe=Recipe(iterations=320, batch=2, crop=33))
