"""Build LR-ASPP, the light head of MobileNetV3 (arXiv 1905.02244, figure 10) as torchvision's weights have it."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.backbones import FeatureInfo, FeatureRequest
from pipeline.models.heads.head import Head, init_head
from pipeline.models.layers import ConvBatchNorm

CHANNELS = 128


class LRASPP(Head):
    """Scale features at stride 16 by what the whole picture says, and add their logits to those at stride 8."""

    request: ClassVar = FeatureRequest(strides=(8, 16))
    rate_counts: ClassVar = range(1)

    def __init__(self, features: FeatureInfo, classes: int, _: Sequence[int] = ()) -> None:
        super().__init__()
        fine, coarse = features.channels
        self.project = ConvBatchNorm(coarse, CHANNELS, 1, activation=nn.ReLU(inplace=True))
        self.scale = nn.Conv2d(coarse, CHANNELS, 1, bias=False)
        self.fine_classifier = nn.Conv2d(fine, classes, 1)
        self.coarse_classifier = nn.Conv2d(CHANNELS, classes, 1)
        init_head(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, h, w) on the finer grid."""
        fine, coarse = features
        x = self.project(coarse) * torch.sigmoid(self.scale(coarse.mean(dim=(2, 3), keepdim=True)))
        x = functional.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=False)  # as torchvision
        logits: Tensor = self.fine_classifier(fine) + self.coarse_classifier(x)
        return logits

    def classifiers(self) -> list[nn.Module]:
        """Return the last convolution of each level."""
        return [self.fine_classifier, self.coarse_classifier]
