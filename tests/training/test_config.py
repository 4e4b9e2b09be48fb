"""Training runs that cannot be: refused by name, before anything is opened."""

import pytest

from pipeline.cli import parse
from pipeline.errors import ConfigError
from pipeline.models import ARCHITECTURES
from pipeline.training.config import SHORT_NAMES, TrainConfig
from pipeline.training.recipe import Recipe

RUN = {"data": "d", "data_format": "camvid", "output": "o"}


def test_short_names_are_architectures():
    assert set(SHORT_NAMES.values()) <= set(ARCHITECTURES)
    assert {"light", "vgg16-aspp", "resnet101-aspp"} <= set(SHORT_NAMES)
    assert TrainConfig(**RUN, model="deeplabv2-vgg16-aspp-s").architecture == "deeplabv2-vgg16-aspp-s"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"model": "heavy"}, "no model is called 'heavy'; known: light, "),
        ({"workers": 0}, "workers is 0"),
        ({"workers": (3, 2)}, r"workers is \(3, 2\)"),
        ({"workers": (1, 5), "recipe": Recipe(batch=4)}, "5 workers cannot share a batch of 4 pictures"),
        ({"name": "a/b"}, "name is 'a/b'"),
        ({"name": "_runs"}, "name is '_runs'"),
        ({"max_failures": -2}, "max_failures is -2"),
        ({"storage_timeout": -1.0}, "storage_timeout is -1"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong, told):
    with pytest.raises(ConfigError, match=told):
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
