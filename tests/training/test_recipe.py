"""The poly schedule and the checks of a recipe."""

from pathlib import Path

import pytest

from pipeline.cli import parse
from pipeline.errors import ConfigError
from pipeline.training.config import TrainConfig
from pipeline.training.recipe import Recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def read(path):
    return parse(TrainConfig, "", [f"--config={path}", "--data=d", "--output=o"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_a_config_and_says_how_long_it_takes_and_what_it_gives(path):
    assert read(path).name == path.stem
    head = path.read_text()
    for what in (f"deeplab-buckets train --config recipes/{path.name} --data ", "# Run time: ", "# Expected: "):
        assert what in head


def test_the_voc_recipe_is_the_papers():
    config = read(next(path for path in RECIPES if path.stem == "voc-resnet101"))
    assert config.recipe == Recipe(scales=(1.0, 0.75, 0.5))
    assert (config.architecture, config.split) == ("deeplabv2-resnet101-aspp", "trainaug")


def test_the_recipe_for_vgg_is_the_papers():
    config = read(next(path for path in RECIPES if path.stem == "voc-vgg16"))
    assert config.recipe == Recipe(base_lr=1e-3)
    assert (config.recipe.iterations, config.recipe.batch, config.recipe.crop) == (20_000, 10, 321)
    assert (config.recipe.head_weight_lr, config.recipe.head_bias_lr) == (10, 20)
    assert (config.recipe.power, config.recipe.momentum, config.recipe.weight_decay) == (0.9, 0.9, 5e-4)
    assert (config.architecture, config.init) == ("deeplabv2-vgg16-aspp-l", "vgg16-imagenet")
    assert (config.split, config.validation_split) == ("trainaug", "val")


@pytest.mark.parametrize(("scales", "crop"), [((1.0,), 329), ((1.0, 0.75, 0.5), 321)])
def test_a_crop_is_valid_at_every_scale(scales, crop):
    Recipe(scales=scales, crop=crop).check_crop(8)
    with pytest.raises(ConfigError, match="must be 32m"):
        Recipe(scales=(1.0, 0.75, 0.5), crop=329).check_crop(8)


@pytest.mark.parametrize("crop", [-7, 1, 320])
def test_a_crop_that_is_not_valid_is_refused_by_name(crop):
    with pytest.raises(ConfigError, match=rf"recipe.crop is {crop}; it must be 8m \+ 1, such as 257 or 321"):
        Recipe(crop=crop).check_crop(8)


def test_a_crop_is_valid_for_the_networks_own_stride():
    Recipe(crop=35).check_crop(2)
    with pytest.raises(ConfigError, match="must be 8m"):
        Recipe(crop=35).check_crop(8)


def test_defaults_are_the_papers():
    recipe = Recipe()
    assert (recipe.iterations, recipe.batch, recipe.crop) == (20_000, 10, 321)
    assert (recipe.base_lr, recipe.momentum, recipe.weight_decay, recipe.power) == (2.5e-4, 0.9, 5e-4, 0.9)
    assert (recipe.head_weight_lr, recipe.head_bias_lr, recipe.freeze_bn) == (10.0, 20.0, True)
    assert (recipe.scale_min, recipe.scale_max, recipe.mirror) == (0.5, 1.5, 0.5)


@pytest.mark.parametrize(
    ("step", "share"), [(0, 1.0), (5_000, 0.771882), (10_000, 0.535887), (18_000, 0.125893), (20_000, 0.0)]
)
def test_poly_schedule(step, share):
    assert Recipe().learning_rate(step) == pytest.approx(2.5e-4 * share, rel=1e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iterations", 0), ("batch", 0), ("base_lr", 0.0), ("checkpoint_every", 0), ("momentum", -0.1),
        ("class_balance", -1), ("scale_min", 2.0), ("scale_min", 0.0), ("mirror", 1.5), ("colour_jitter", 1.0),
        ("cut_mix", 1.1),
        ("seed", -1), ("seed", 2**32), ("ema_decay", 1.0), ("ema_decay", -0.1), ("precision", "half"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=f"recipe.{field}.* is "):
        Recipe(**{field: value})
