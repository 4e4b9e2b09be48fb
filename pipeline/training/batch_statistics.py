"""Tell from a recipe, before any work, that batch normalisation would have a single value to take statistics of."""

import copy

import torch

from pipeline.errors import ConfigError
from pipeline.models.deeplab import SegmentationModel
from pipeline.models.multiscale import scaled_size
from pipeline.training.examples import share
from pipeline.training.loop import set_train_mode
from pipeline.training.recipe import Recipe


def check_statistics(model: SegmentationModel, recipe: Recipe, workers: tuple[int, int]) -> None:
    """Raise ConfigError where a worker goes through pictures one by one, and `model` cannot learn from a single one.

    A layer behind image pooling has one value a picture and channel, and its statistics need two.

    Args:
        model: to be trained.
        recipe: how.
        workers: the fewest and the most.
    """
    if recipe.freeze_bn or fewest_at_once(recipe, workers) > 1 or _learns_from_one(model, recipe):
        return
    low, high = workers
    raise ConfigError(
        f"a worker would go through its pictures one at a time (recipe.batch {recipe.batch}, recipe.accumulate "
        f"{recipe.accumulate}, workers {low if low == high else list(workers)}), and the model has batch normalisation "
        "of one value a picture, which takes two; give a larger --recipe.batch, a smaller --recipe.accumulate, fewer "
        "workers, or --recipe.freeze-bn"
    )


def fewest_at_once(recipe: Recipe, workers: tuple[int, int]) -> int:
    """Return the fewest pictures that a worker goes through at once, for any number of workers in the range."""
    low, high = workers
    shares = {len(share(0, recipe, rank, world)) for world in range(low, high + 1) for rank in range(world)}
    return min(len(torch.empty(pictures).chunk(recipe.accumulate)[-1]) for pictures in shares)


def _learns_from_one(model: SegmentationModel, recipe: Recipe) -> bool:
    """Try it, on tensors that have a shape and no values."""
    shapes = copy.deepcopy(model).to("meta")
    set_train_mode(shapes, recipe)
    try:
        for scale in recipe.scales:
            side = scaled_size(recipe.crop, scale)
            shapes(torch.empty(1, 3, side, side, device="meta"))
    except ValueError:  # as torch.nn.functional.batch_norm refuses a single value
        return False
    return True
