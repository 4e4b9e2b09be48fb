"""The configuration of the built-in model's training on generated scenes."""

from dataclasses import dataclass

from pipeline.errors import ConfigError
from pipeline.numbers import check_numbers
from pipeline.refine.crf import CRFParams
from pipeline.storage import Uri
from pipeline.training.recipe import Recipe

ARCHITECTURE = "deeplabv2-efficientnet-lite0-aspp"

CRF = CRFParams(gaussian_weight=1, gaussian_xy=1, bilateral_weight=12, bilateral_xy=80, bilateral_rgb=8)
"""The best of a coarse search on 20 scenes from seed 900000 up, which are in neither training nor validation."""

RECIPE = Recipe(
    iterations=900,
    batch=6,
    crop=193,
    base_lr=4e-3,
    head_weight_lr=0.3,
    head_bias_lr=0.6,
    clip_norm=10.0,
    scale_min=0.75,
    checkpoint_every=30,
)
"""Chosen in short trials. The backbone ends without a ReLU: on its large features the head wants a low rate."""


@dataclass(frozen=True, kw_only=True)
class ScenesConfig:
    """Train the light network on generated scenes, and export weights and card.

    Args:
        output: URI of a folder for NAME.safetensors, NAME.json and the checkpoint.
        name: of the model.
        recipe: how it is trained.
        validation: held-out scenes that the card's scores are measured on.
        crf: parameters of the refinement, for the card and its scores.
        machine: what the training ran on and for how long, for the card.
    """

    output: Uri
    name: str = "scenes"
    recipe: Recipe = RECIPE
    validation: int = 100
    crf: CRFParams = CRF
    machine: str = "not noted"

    def __post_init__(self) -> None:
        from pipeline.models.architecture import ARCHITECTURES  # here, since it loads torch

        check_numbers(self)
        self.recipe.check_crop(ARCHITECTURES[ARCHITECTURE].stride)
        if self.validation < 1:
            raise ConfigError(f"validation is {self.validation}; the card's scores need at least 1 held-out scene")
