"""Share a light network among the model tests."""

import pytest
import torch

from pipeline import models
from pipeline.models import SegmentationModel


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    """Build the light network: ImageNet's backbone and a random head of three classes."""
    torch.manual_seed(0)
    name = "deeplabv2-efficientnet-lite0-aspp"
    light = models.build(name, ["sky", "sea", "land"], name="coast", backbone_weights="efficientnet-lite0-imagenet")
    return light.eval()
