"""Batch normalisation of a single value: what a recipe is refused for, and what a training step does."""

import contextlib
import dataclasses
import functools

import pytest
import torch

from pipeline import models
from pipeline.errors import ConfigError
from pipeline.scenes import CLASSES
from pipeline.training.batch_statistics import check_statistics, fewest_at_once
from pipeline.training.loop import set_train_mode, train_step
from pipeline.training.loss import Losses
from pipeline.training.parameters import batch_norms, parameter_groups
from pipeline.training.recipe import Recipe

RECIPE = Recipe(iterations=1, batch=2, crop=33, freeze_bn=False)


@functools.cache
def model(architecture):
    return models.build(architecture, CLASSES)


@pytest.mark.parametrize(
    ("batch", "accumulate", "workers", "fewest"),
    [
        (2, 1, (1, 1), 2),
        (2, 2, (1, 1), 1),
        (2, 1, (2, 2), 1),
        (8, 1, (1, 5), 1),  # five workers: three of them have two pictures, two have one
        (8, 1, (1, 4), 2),
        (5, 2, (1, 1), 2),
        (5, 3, (1, 1), 1),
        (10, 4, (1, 1), 1),
        (3, 8, (1, 1), 1),
    ],
)
def test_the_fewest_pictures_that_a_worker_goes_through_at_once(batch, accumulate, workers, fewest):
    assert fewest_at_once(dataclasses.replace(RECIPE, batch=batch, accumulate=accumulate), workers) == fewest


@pytest.mark.parametrize(
    ("architecture", "learns"), [("deeplabv3-resnet50", False), ("deeplab-efficientnet-lite0-decoder", True)]
)
def test_a_recipe_is_refused_exactly_where_its_first_step_fails(architecture, learns):
    recipe = dataclasses.replace(RECIPE, accumulate=2)
    network = model(architecture)
    statistics = batch_norms(network)[0].running_mean
    before = statistics.clone()
    with contextlib.nullcontext() if learns else pytest.raises(ConfigError) as refused:
        check_statistics(network, recipe, (1, 1))
    assert torch.equal(statistics, before)
    set_train_mode(network, recipe)
    optimizer = torch.optim.SGD(parameter_groups(network, recipe), lr=0.0)
    images, labels = torch.zeros(2, 3, 33, 33), torch.zeros(2, 33, 33, dtype=torch.uint8)
    with contextlib.nullcontext() if learns else pytest.raises(ValueError, match="more than 1 value per channel"):
        train_step(Losses(network, recipe), optimizer, images, labels, recipe, step=0)
    if refused:
        assert "recipe.batch 2, recipe.accumulate 2, workers 1" in str(refused.value)
        assert "--recipe.freeze-bn" in str(refused.value)


def test_two_pictures_or_frozen_statistics_are_enough():
    network = model("deeplabv3-resnet50")
    check_statistics(network, RECIPE, (1, 1))
    check_statistics(network, dataclasses.replace(RECIPE, accumulate=2, freeze_bn=True), (1, 1))
    with pytest.raises(ConfigError, match=r"workers \[1, 2\]"):
        check_statistics(network, RECIPE, (1, 2))
