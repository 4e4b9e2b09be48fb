"""The training step and loop: loss, parameter groups, resuming, and that it learns."""

import copy
import dataclasses
import io
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import models
from pipeline.errors import ConfigError, RunError
from pipeline.metrics import SegmentationScore
from pipeline.models.preprocessing import CAFFE_PREPROCESSING, LITE_PREPROCESSING
from pipeline.scenes import CLASSES, scene
from pipeline.training.average import WeightAverage
from pipeline.training.examples import batches, mean_colour
from pipeline.training.loop import restore, set_train_mode, train, train_step
from pipeline.training.loss import Losses
from pipeline.training.parameters import parameter_groups
from pipeline.training.recipe import Recipe

LIGHT = "deeplabv2-efficientnet-lite0-aspp"
SMALL = Recipe(iterations=4, batch=2, crop=33, base_lr=0.01, checkpoint_every=2, freeze_bn=False)


def small_scene(draw):
    return scene(draw, (64, 48))


def small_batches(recipe, start=0):
    return batches(small_scene, LITE_PREPROCESSING, recipe, start)


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    return models.build(LIGHT, CLASSES)


@pytest.fixture
def model(untrained):
    return copy.deepcopy(untrained)


def sgd(model, recipe):
    return torch.optim.SGD(parameter_groups(model, recipe), lr=1.0, momentum=recipe.momentum)


def torch_file(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_a_step_moves_each_parameter_by_its_own_rate(model):
    recipe = Recipe(iterations=100, batch=2, crop=33, momentum=0.0, weight_decay=0.0)
    images, labels = next(iter(small_batches(recipe)))
    set_train_mode(model, recipe)
    before = copy.deepcopy(model)
    train_step(Losses(model, recipe), sgd(model, recipe), images, labels, recipe, step=50)
    losses = Losses(before, recipe)
    (losses(images, labels) / losses.labelled(labels)).sum().backward()
    rate = 2.5e-4 * 0.5**0.9
    multipliers = {"backbone.stem.conv.weight": 1, "head.branches.2.weight": 10, "head.branches.2.bias": 20}
    for name, multiplier in multipliers.items():
        old, new = before.get_parameter(name), model.get_parameter(name)
        torch.testing.assert_close(new, old - rate * multiplier * old.grad, rtol=1e-5, atol=1e-8)


def test_a_long_gradient_is_shortened(model):
    recipe = Recipe(iterations=100, batch=2, crop=33, momentum=0.0, weight_decay=0.0, clip_norm=0.5)
    recipe = dataclasses.replace(recipe, base_lr=1.0, head_weight_lr=1.0, head_bias_lr=1.0)
    images, labels = next(iter(small_batches(recipe)))
    set_train_mode(model, recipe)
    before = copy.deepcopy(model)
    train_step(Losses(model, recipe), sgd(model, recipe), images, labels, recipe, step=0)
    moved = [new - old for old, new in zip(before.parameters(), model.parameters(), strict=True)]
    assert torch.stack([step.norm() for step in moved]).norm().item() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_accumulated_parts_make_the_step_of_the_whole_batch(model, parts):
    recipe = Recipe(iterations=10, batch=5, crop=33, base_lr=0.01)
    images, labels = next(iter(small_batches(recipe)))
    labels[0, :20] = 255  # parts differ in how much of them is labelled
    whole, cut = model, copy.deepcopy(model)
    steps = []
    for network, how in ((whole, recipe), (cut, dataclasses.replace(recipe, accumulate=parts))):
        set_train_mode(network, how)
        steps.append(train_step(Losses(network, how), sgd(network, how), images, labels, how, step=0))
    assert steps[0] == pytest.approx(steps[1], rel=1e-5)
    for (name, old), new in zip(whole.named_parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-6, msg=name)


def test_the_scale_of_class_weights_changes_no_step(model):
    """Also where a batch has only classes that weigh little, so that its weights add up to less than 1."""
    images, labels = next(iter(small_batches(SMALL)))
    weights = torch.linspace(1, 2, len(CLASSES))
    losses = []
    for scale in (1.0, 2.0**-30):
        network = copy.deepcopy(model)
        set_train_mode(network, SMALL)
        steps = Losses(network, SMALL, weights * scale), sgd(network, SMALL)
        losses.append(train_step(*steps, images, labels, SMALL, step=0))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_bfloat16_comes_near_to_float32_and_auto_is_what_the_device_gains_from(monkeypatch):
    model = models.build(LIGHT, CLASSES, backbone_weights="efficientnet-lite0-imagenet")
    recipe = Recipe(iterations=10, batch=2, crop=33)
    images, labels = next(iter(small_batches(recipe)))
    set_train_mode(model, recipe)

    def loss(precision):
        return Losses(model, dataclasses.replace(recipe, precision=precision))(images, labels).item()

    exact, rough = loss("float32"), loss("bfloat16")
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.05)
    for gains, expected in ((True, rough), (False, exact)):
        monkeypatch.setattr("pipeline.training.loss.gains_from_bfloat16", lambda _, gains=gains: gains)
        assert loss("auto") == expected


def test_frozen_batch_norm_keeps_its_numbers(model):
    recipe = Recipe(iterations=2, batch=2, crop=33)
    before = copy.deepcopy(model.state_dict())
    train(model, lambda start: small_batches(recipe, start), recipe)
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    for name, value in model.state_dict().items():
        is_norm = name.rpartition(".")[0] in norms
        assert torch.equal(value, before[name]) == is_norm, name
    assert not model.training


@pytest.mark.parametrize("network", ["light", "with dropout", "averaged"])
def test_a_resumed_run_equals_an_uninterrupted_one(model, network):
    """Also where dropout draws: of the random numbers that a process has used before, nothing may depend on them."""
    recipe = dataclasses.replace(SMALL, ema_decay=0.9 if network == "averaged" else 0.0)
    if network == "with dropout":
        model = models.build("deeplabv2-vgg16-largefov", CLASSES)
        assert any(isinstance(module, nn.Dropout) for module in model.modules())
    whole, first, second = model, copy.deepcopy(model), copy.deepcopy(model)
    kept, losses = [], []
    train(whole, lambda start: small_batches(recipe, start), recipe, on_step=lambda p: losses.append(p.loss))

    def interrupted(start):
        return itertools.islice(small_batches(recipe, start), 3)

    train(first, interrupted, recipe, on_checkpoint=kept.append)
    torch.manual_seed(17)  # as in a process of its own
    seen = []
    train(second, lambda start: small_batches(recipe, start), recipe, checkpoint=kept[-1], on_step=seen.append)
    assert [p.step for p in seen] == [3, 4]
    assert [p.loss for p in seen] == losses[2:]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_checkpoints_come_every_k_steps_and_at_the_end(model):
    recipe = Recipe(iterations=3, batch=1, crop=33, checkpoint_every=2)
    kept = []
    train(model, lambda start: small_batches(recipe, start), recipe, on_checkpoint=kept.append)
    assert len(kept) == 2
    train(model, lambda start: small_batches(recipe, start), recipe, checkpoint=kept[-1], on_step=pytest.fail)


def test_a_step_between_may_be_saved_and_gone_on_from(model):
    recipe = Recipe(iterations=3, batch=1, crop=33, checkpoint_every=2)
    again, kept, seen = copy.deepcopy(model), [], []
    train(
        model,
        lambda start: small_batches(recipe, start),
        recipe,
        on_checkpoint=kept.append,
        must_save=lambda step: step == 1,
    )
    assert len(kept) == 3
    train(again, lambda start: small_batches(recipe, start), recipe, checkpoint=kept[0], on_step=seen.append)
    assert [result.step for result in seen] == [2, 3]
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_checkpoints_keep_the_names_that_weights_are_stored_under(model):
    """An unfinished run of an earlier version, which called the backbone a trunk, is continued."""
    recipe = Recipe(iterations=1, batch=1, crop=33)
    kept = []
    train(model, lambda start: small_batches(recipe, start), recipe, on_checkpoint=kept.append)
    state = torch.load(io.BytesIO(kept[0]), weights_only=True)["model"]
    assert {key.partition(".")[0] for key in state} == {"trunk", "head"}
    fresh = models.build(LIGHT, CLASSES)
    assert restore(kept[0], fresh, sgd(fresh, recipe), WeightAverage(fresh, 0), recipe) == 1
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name


def test_a_checkpoint_of_another_recipe_or_network_is_refused(model):
    recipe = Recipe(iterations=1, batch=1, crop=33)
    kept = []
    train(model, lambda start: small_batches(recipe, start), recipe, on_checkpoint=kept.append)
    other = Recipe(iterations=1, batch=1, crop=41)
    with pytest.raises(ConfigError, match="crop 33 -> 41"):
        train(model, lambda start: small_batches(other, start), other, checkpoint=kept[-1])
    fewer = models.build(LIGHT, CLASSES[1:])
    with pytest.raises(ConfigError, match="of another network"):
        train(fewer, lambda start: small_batches(recipe, start), recipe, checkpoint=kept[-1])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda whole: b"", r"damaged \(EOFError\)"),
        (lambda whole: b"xx", r"damaged \(UnpicklingError\)"),
        (lambda whole: whole[: len(whole) // 2], r"damaged \(RuntimeError\)"),
        (lambda whole: bytes([*whole[:5000], *(255 - byte for byte in whole[5000:6000]), *whole[6000:]]), "damaged"),
        (lambda whole: torch_file({"weight": torch.zeros(1)}), "not what a training has written"),
        (lambda whole: torch_file([1]), "not what a training has written"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_a_line(model, damage, told):
    recipe, kept = Recipe(iterations=1, batch=1, crop=33), []
    train(model, lambda start: small_batches(recipe, start), recipe, on_checkpoint=kept.append)
    with pytest.raises(ConfigError, match=f"^the checkpoint is {told}.*; remove it, or start anew") as raised:
        train(model, pytest.fail, recipe, checkpoint=damage(kept[-1]))
    assert "\n" not in str(raised.value)


def test_a_checkpoint_from_before_weights_were_averaged_is_gone_on_from_without_averaging(model):
    recipe = Recipe(iterations=1, batch=1, crop=33)
    kept = []
    train(model, lambda start: small_batches(recipe, start), recipe, on_checkpoint=kept.append)
    state = torch.load(io.BytesIO(kept[-1]), weights_only=True)
    del state["average"], state["recipe"]["ema_decay"]
    earlier = torch_file(state)
    train(model, lambda start: small_batches(recipe, start), recipe, checkpoint=earlier, on_step=pytest.fail)
    averaged = dataclasses.replace(recipe, ema_decay=0.9)
    with pytest.raises(ConfigError, match=r"ema_decay 0\.0 -> 0\.9"):
        train(model, lambda start: small_batches(averaged, start), averaged, checkpoint=earlier)


def test_a_loss_that_is_no_number_ends_training_at_once(model):
    recipe = dataclasses.replace(SMALL, base_lr=1e20)
    seen = []
    with pytest.raises(
        RunError, match=r"the loss of step 2 is (nan|inf): .* recipe.base_lr below 1e\+20, or .*clip_norm"
    ):
        train(model, lambda start: small_batches(recipe, start), recipe, on_step=seen.append, on_checkpoint=pytest.fail)
    assert [progress.step for progress in seen] == [1]


def test_batches_depend_on_seed_and_step_alone():
    whole = list(small_batches(SMALL))
    for later, (images, labels) in zip(whole[2:], small_batches(SMALL, 2), strict=True):
        assert torch.equal(later[0], images)
        assert torch.equal(later[1], labels)
    assert whole[0][0].shape == (2, 3, 33, 33)
    assert whole[0][1].shape == (2, 33, 33)
    other = next(iter(small_batches(Recipe(iterations=4, batch=2, crop=33, seed=1))))
    assert not torch.equal(whole[0][0], other[0])


def test_padding_is_about_zero_after_preprocessing():
    assert mean_colour(LITE_PREPROCESSING) == (127, 127, 127)
    assert mean_colour(CAFFE_PREPROCESSING) == (123, 117, 104)


@pytest.mark.slow
def test_one_small_batch_is_learned_by_heart():
    torch.manual_seed(0)
    model = models.build(LIGHT, CLASSES, backbone_weights="efficientnet-lite0-imagenet")
    recipe = Recipe(iterations=60, batch=2, crop=65, base_lr=0.02, freeze_bn=False)
    image, mask = scene(3, (80, 65))
    images = torch.stack([model.preprocess(image[:, left : left + 65]) for left in (0, 15)])
    labels = torch.stack([torch.from_numpy(mask[:, left : left + 65].copy()) for left in (0, 15)])
    losses = []
    train(model, lambda _: [(images, labels)] * recipe.iterations, recipe, on_step=lambda p: losses.append(p.loss))
    assert losses[-1] < 0.1 * losses[0]
    with torch.inference_mode():
        learned = model(images).argmax(dim=1).numpy().astype(np.uint8)
    score = SegmentationScore(len(CLASSES))
    score.update(labels[:, ::8, ::8].numpy().reshape(-1, 9), learned.reshape(-1, 9))
    assert score.mean_iou > 0.95
