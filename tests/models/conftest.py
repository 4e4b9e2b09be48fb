"""What the model tests share."""

import pytest
import torch

from pipeline import models
from pipeline.models import SegmentationModel


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    """The light network: ImageNet's trunk and a random head of three classes."""
    torch.manual_seed(0)
    name = "deeplabv2-efficientnet-lite0-aspp"
    light = models.build(name, ["sky", "sea", "land"], name="coast", trunk_weights="efficientnet-lite0-imagenet")
    return light.eval()
