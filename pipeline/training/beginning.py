"""What a training begins with, checked: pictures to score that it does not train on, a network that fits the recipe."""

import dataclasses
from collections.abc import Iterable

import torch

from pipeline import models
from pipeline.data.formats.format import Pair
from pipeline.errors import ConfigError
from pipeline.labels import Labels
from pipeline.models.deeplab import SegmentationModel
from pipeline.training.batch_statistics import check_statistics
from pipeline.training.config import TrainConfig
from pipeline.training.parameters import batch_norms


def check_apart(config: TrainConfig, training: Iterable[Pair], validation: Iterable[Pair]) -> None:
    """Raise ConfigError where pictures would be scored on that were trained on."""
    both = {pair.key for pair in training} & {pair.key for pair in validation}
    if both:
        raise ConfigError(
            f"the split {config.split} and the validation split {config.validation_split} share {len(both)} pictures, "
            f"such as {min(both)}; a score on what was trained on tells nothing: give another --validation-split, or "
            "null for none"
        )


def untrained(config: TrainConfig, labels: Labels) -> SegmentationModel:
    """Build the model to begin with. Raises ConfigError where the recipe does not go with its batch normalisation."""
    recipe = config.recipe
    torch.manual_seed(recipe.seed)  # a new head is random
    model = models.build(
        config.architecture, labels.classes, name=config.name, palette=labels.palette, backbone_weights=config.init
    )
    model.card = dataclasses.replace(model.card, scales=recipe.scales)
    new = {"head": batch_norms(model.head), "backbone": [] if config.init else batch_norms(model.backbone)}
    where = " and ".join(part for part, norms in new.items() if norms)
    if recipe.freeze_bn and where:
        raise ConfigError(
            f"the recipe freezes batch normalisation, and the {where} of {config.model} would begin with some that has "
            "seen no picture; give --recipe.no-freeze-bn" + ("" if new["head"] else ", or weights by --init")
        )
    check_statistics(model, recipe, config.worker_range)
    return model
