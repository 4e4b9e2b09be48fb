"""Training in plain PyTorch: recipe, augmentation, batches and the loop."""

from pipeline.training.loop import Progress, train
from pipeline.training.recipe import Recipe

__all__ = ["Progress", "Recipe", "train"]
