"""Training runs that cannot be: refused by name, before anything is opened."""

import pytest

from pipeline.cli import parse
from pipeline.errors import ConfigError
from pipeline.models import ARCHITECTURES
from pipeline.models.architecture import SHORT_NAMES
from pipeline.training.config import TrainConfig
from pipeline.training.recipe import Recipe

RUN = {"data": "d", "data_format": "camvid", "output": "o"}


def test_short_names_are_architectures():
    assert set(SHORT_NAMES.values()) <= set(ARCHITECTURES)
    assert {"light", "vgg16-aspp", "resnet101-aspp"} <= set(SHORT_NAMES)
    assert TrainConfig(**RUN, model="deeplabv2-vgg16-aspp-s").architecture == "deeplabv2-vgg16-aspp-s"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "heavy"}, "no model is called 'heavy'; known: light, "),
        ({"model": "vgg16-aspp", "recipe": Recipe(crop=35)}, r"recipe.crop is 35; it must be 8m \+ 1"),
        ({"recipe": Recipe(crop=36)}, r"recipe.crop is 36; it must be 2m \+ 1"),
        ({"workers": 0}, "workers is 0"),
        ({"workers": (3, 2)}, r"workers is \(3, 2\)"),
        ({"workers": (1, 5), "recipe": Recipe(batch=4)}, "5 workers cannot share a batch of 4 pictures"),
        ({"name": "a/b"}, "name is 'a/b'"),
        ({"name": "_runs"}, "name is '_runs'"),
        ({"max_failures": -2}, "max_failures is -2"),
        ({"storage_timeout": -1.0}, "storage_timeout is -1"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**(RUN | wrong))


def test_workers_are_a_number_or_a_range():
    assert TrainConfig(**RUN, workers=2).worker_range == (2, 2)
    assert TrainConfig(**RUN, workers=(1, 4)).worker_range == (1, 4)


@pytest.mark.parametrize(("flag", "workers"), [("--workers=2", (2, 2)), ("--workers=[1,2]", (1, 2))])
def test_workers_on_the_command_line(flag, workers):
    flags = [f"--{name}={value}" for name, value in RUN.items()]
    assert parse(TrainConfig, "", [*flags, flag]).worker_range == workers


def test_everything_of_a_run_is_in_one_folder():
    assert TrainConfig(**RUN | {"output": "s3://b/runs/"}, name="x").folder == "s3://b/runs/x"
