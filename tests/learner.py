"""One process of a small training run, for tests that start several; spawned processes import it by name."""

import functools

import torch

from pipeline import models
from pipeline.scenes import CLASSES, scene
from pipeline.training.data import collate, example, share
from pipeline.training.loop import train

LIGHT = "deeplabv2-efficientnet-lite0-aspp"


def draw(number):
    image, mask = scene(number, (64, 48))
    mask[: 5 * number] = 255  # so that the processes' shares differ in how much of them is labelled
    return image, mask


def steps(model, start, rank, world, recipe):
    for step in range(start, recipe.iterations):
        how = model.card.preprocessing
        yield collate([example(draw, number, how, recipe) for number in share(step, recipe, rank, world)], how)


def learn(rank, world, recipes, address, folder):
    """Train by each recipe; what comes of it is saved as FOLDER/NAME-WORLD-RANK.pt."""
    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    for name, recipe in recipes.items():
        torch.manual_seed(0)
        model = models.build(LIGHT, CLASSES, trunk_weights="efficientnet-lite0-imagenet")
        losses = []
        batches = functools.partial(steps, model, rank=rank, world=world, recipe=recipe)
        train(
            model,
            batches,
            recipe,
            on_step=lambda progress, losses=losses: losses.append(progress.loss),
            on_checkpoint=lambda state: None,
        )
        torch.save({"model": model.state_dict(), "losses": losses}, f"{folder}/{name}-{world}-{rank}.pt")
