"""Train in plain PyTorch: recipe, augmentation, batches and the loop."""

from pipeline.training.loop import StepResult, train
from pipeline.training.recipe import Recipe

__all__ = ["Recipe", "StepResult", "train"]
