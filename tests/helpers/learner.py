"""One process of a small training run, for tests that start several; spawned processes import it by name."""

import functools
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from pipeline import models
from pipeline.models import SegmentationModel
from pipeline.scenes import CLASSES, scene
from pipeline.training.augment import Pixels
from pipeline.training.examples import collate, example, share
from pipeline.training.loop import StepResult, train
from pipeline.training.recipe import Recipe

LIGHT = "deeplabv2-efficientnet-lite0-aspp"


def draw(number: int) -> tuple[Pixels, Pixels]:
    image, mask = scene(number, (64, 48))
    mask[: 5 * number] = 255  # so that the processes' shares differ in how much of them is labelled
    return image, mask


def steps(
    model: SegmentationModel, start: int, rank: int, world: int, recipe: Recipe
) -> Iterator[tuple[Tensor, Tensor]]:
    for step in range(start, recipe.iterations):
        how = model.card.preprocessing
        yield collate([example(draw, number, how, recipe) for number in share(step, recipe, rank, world)], how)


def learn(rank: int, world: int, recipes: Mapping[str, Recipe], address: str, folder: str) -> None:
    """Train by each recipe; what comes of it is saved as FOLDER/NAME-WORLD-RANK.pt."""
    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    for name, recipe in recipes.items():
        torch.manual_seed(0)
        model = models.build(LIGHT, CLASSES, backbone_weights="efficientnet-lite0-imagenet")
        losses: list[float] = []
        batches = functools.partial(steps, model, rank=rank, world=world, recipe=recipe)
        train(
            model,
            batches,
            recipe,
            on_step=functools.partial(_note, losses),
            on_checkpoint=lambda state: None,
        )
        torch.save({"model": model.state_dict(), "losses": losses}, f"{folder}/{name}-{world}-{rank}.pt")


def _note(losses: list[float], done: StepResult) -> None:
    losses.append(done.loss)
