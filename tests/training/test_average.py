"""The average of a network's weights: its formula, and that it is what is validated and exported."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from pipeline import models
from pipeline.models.preprocessing import LITE_PREPROCESSING
from pipeline.scenes import CLASSES, scene
from pipeline.training.average import WeightAverage
from pipeline.training.examples import batches
from pipeline.training.loop import put_result, train
from pipeline.training.recipe import Recipe

RECIPE = Recipe(iterations=4, batch=2, crop=33, base_lr=0.01, checkpoint_every=2, freeze_bn=False)
AVERAGED = dataclasses.replace(RECIPE, ema_decay=0.3)


def some_batches(start):
    return batches(lambda draw: scene(draw, (64, 48)), LITE_PREPROCESSING, RECIPE, start)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return models.build("deeplabv2-efficientnet-lite0-aspp", CLASSES)


def test_the_first_steps_count_more_than_the_decay_lets_later_ones_count():
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, 0.2)
    expected = network.weight.item()
    for steps, kept in enumerate((1 / 10, 2 / 11, 0.2, 0.2)):
        nn.init.constant_(network.weight, steps + 1.0)
        average.update(steps)
        expected = kept * expected + (1 - kept) * (steps + 1)
        assert average.state["weight"].item() == pytest.approx(expected)


def test_batch_statistics_are_averaged_and_batches_are_counted():
    norm = nn.BatchNorm2d(2)
    average = WeightAverage(norm, 0.05)
    for steps, mean in enumerate((4.0, 8.0)):
        norm.running_mean.fill_(mean)
        norm.num_batches_tracked += 1
        average.update(steps)
    assert average.state["running_mean"].tolist() == pytest.approx([7.8 - 0.05 * 0.05 * 4.0] * 2)
    assert average.state["num_batches_tracked"] == 2


def test_the_network_has_the_averages_for_a_while():
    network = nn.Linear(3, 2)
    average = WeightAverage(network, 0.5)
    before = copy.deepcopy(network.state_dict())
    nn.init.zeros_(network.weight)
    with average.in_place():
        assert torch.equal(network.weight, before["weight"])
    assert not network.weight.any()
    average.put()
    assert torch.equal(network.weight, before["weight"])


def test_without_a_decay_nothing_is_kept():
    network = nn.Linear(3, 2)
    average = WeightAverage(network, 0.0)
    assert not average.state
    nn.init.zeros_(network.weight)
    average.update(0)
    with average.in_place():
        assert not network.weight.any()
    average.put()
    assert not network.weight.any()


def test_checkpoints_are_scored_and_exported_with_the_averages_and_training_goes_on_without(model):
    """The steps are those of a run that averages nothing; what it ends with is the average of their weights."""
    plain, kept, seen = copy.deepcopy(model), [], []
    expected = WeightAverage(plain, AVERAGED.ema_decay)
    train(plain, some_batches, RECIPE, on_step=lambda result: expected.update(result.step - 1))

    def check(state):
        seen.append(copy.deepcopy(model.state_dict()))
        kept.append(state)

    train(model, some_batches, AVERAGED, on_checkpoint=check)
    exported = copy.deepcopy(plain)
    put_result(kept[-1], exported)
    for name, value in expected.state.items():
        assert torch.equal(value, seen[-1][name]), name
        assert torch.equal(value, model.state_dict()[name]), name
        assert torch.equal(value, exported.state_dict()[name]), name
    assert not torch.equal(seen[-1]["backbone.stem.conv.weight"], plain.backbone.stem.conv.weight)
    assert not model.training
