"""How long does a training step take on this machine's CPU? `python -m benchmarks.training_step --model light`.

Prints one table: seconds of a step, forward, backward and update, in float32; in bfloat16 with the CPU library's own
gradients of depthwise convolutions; and as the project computes them. Medians over rounds in which all take turns,
after a first round, and the ratio to float32, round by round.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal
from unittest import mock

import torch
from torch import nn

from benchmarks.table import markdown, spread
from pipeline.cli import parse
from pipeline.data.labelled import labels
from pipeline.errors import ConfigError, PipelineError
from pipeline.models.depthwise import Depthwise
from pipeline.storage import Uri
from pipeline.training.beginning import untrained
from pipeline.training.config import TrainConfig
from pipeline.training.loop import set_train_mode, train_step
from pipeline.training.loss import Losses
from pipeline.training.parameters import parameter_groups
from pipeline.training.recipe import Recipe

COLUMNS = ("step", "s, median", "min", "max", "times float32", "min", "max")
NOWHERE = Uri("nowhere")
"""Nothing is read or written: the pictures are noise."""


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """Measure steps of training.

    Args:
        model: as jobs/train.py takes it.
        batch: pictures a step.
        crop: their side, in pixels.
        threads: of PyTorch.
        rounds: in which each variant takes a step, after a first round.
    """

    model: str = "light"
    batch: int = 6
    crop: int = 321
    threads: int = 2
    rounds: int = 10

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if min(self.batch, self.threads, self.rounds) < 1:
            raise ConfigError(f"batch {self.batch}, threads {self.threads} and rounds {self.rounds} must be at least 1")


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(TrainingStep, "Seconds of a training step on a CPU.", argv)
        torch.set_num_threads(config.threads)
        print(f"{config.model}, {config.batch} crops of {config.crop} pixels, {config.threads} threads\n")
        print(markdown(COLUMNS, measure(config)))
    except PipelineError as error:
        print(f"training_step: {error}", file=sys.stderr)
        return 1
    return 0


def measure(config: TrainingStep) -> list[tuple[str, ...]]:
    """Measure a row for each variant."""
    composed = stepper(config, "bfloat16")
    steps: dict[str, Callable[[], float]] = {
        "float32": stepper(config, "float32"),
        "bfloat16, gradients of the library": partial(plainly, composed),
        "bfloat16, composed gradients: in use": composed,
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(config.rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - started)
    rows = {name: measured[1:] for name, measured in times.items()}
    return [
        (
            name,
            *spread(measured),
            *spread([mine / plain for mine, plain in zip(measured, rows["float32"], strict=True)]),
        )
        for name, measured in rows.items()
    ]


def stepper(config: TrainingStep, precision: Literal["float32", "bfloat16"]) -> Callable[[], float]:
    """Build a network, and give what takes a step with it."""
    recipe = Recipe(batch=config.batch, crop=config.crop, freeze_bn=False, precision=precision)
    camvid = TrainConfig(data=NOWHERE, output=NOWHERE, data_format="camvid", model=config.model, recipe=recipe)
    what = labels("camvid", None)
    model = untrained(camvid, what)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    set_train_mode(model, recipe)
    optimizer = torch.optim.SGD(parameter_groups(model, recipe), lr=recipe.base_lr, momentum=recipe.momentum)
    shape = (config.batch, config.crop, config.crop)
    images = torch.randn(config.batch, 3, *shape[1:]).contiguous(memory_format=torch.channels_last)
    noise = torch.randint(0, len(what.classes), shape, dtype=torch.uint8)
    return partial(train_step, Losses(model, recipe), optimizer, images, noise, recipe, 0)


def plainly(step: Callable[[], float]) -> float:
    """Take a step with every depthwise convolution, and its gradients, as PyTorch computes them."""
    with mock.patch.object(Depthwise, "forward", nn.Conv2d.forward):
        return step()


if __name__ == "__main__":
    sys.exit(main())
