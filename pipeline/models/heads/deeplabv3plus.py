"""Build the head of DeepLab v3+ (arXiv 1802.02611, figure 2), without its separable convolutions."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.backbones import FeatureInfo, FeatureRequest
from pipeline.models.heads.deeplabv3 import CHANNELS, ImagePooling
from pipeline.models.heads.head import Head, init_head
from pipeline.models.layers import ConvBatchNorm

FINE_CHANNELS = 48


class DeepLabV3PlusHead(Head):
    """Bring the pyramid of DeepLab v3 from stride 16 to stride 4, and classify it together with features there."""

    request: ClassVar = FeatureRequest(strides=(4, 16))
    rate_counts: ClassVar = range(3, 4)
    output_stride: ClassVar = 4

    def __init__(self, features: FeatureInfo, classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        fine, coarse = features.channels
        pointwise = ConvBatchNorm(coarse, CHANNELS, 1, activation=nn.ReLU(inplace=True))
        atrous = (ConvBatchNorm(coarse, CHANNELS, 3, dilation=rate, activation=nn.ReLU(inplace=True)) for rate in rates)
        self.branches = nn.ModuleList([pointwise, *atrous, ImagePooling(coarse, CHANNELS)])
        self.project = ConvBatchNorm(len(self.branches) * CHANNELS, CHANNELS, 1, activation=nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(0.1)
        self.reduce = ConvBatchNorm(fine, FINE_CHANNELS, 1, activation=nn.ReLU(inplace=True))
        self.refine = ConvBatchNorm(FINE_CHANNELS + CHANNELS, CHANNELS, 3, activation=nn.ReLU(inplace=True))
        self.classifier = nn.Conv2d(CHANNELS, classes, 1)
        init_head(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, h, w) on the finer grid."""
        fine, coarse = features
        pyramid = torch.cat([branch(coarse) for branch in self.branches], dim=1)  # (N, 5 * 256, h / 4, w / 4)
        x = self.dropout(self.project(pyramid))
        x = functional.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=False)  # as weights know it
        logits: Tensor = self.classifier(self.refine(torch.cat([self.reduce(fine), x], dim=1)))
        return logits

    def classifiers(self) -> list[nn.Module]:
        """Return the last convolution."""
        return [self.classifier]


class DeepLabV3PlusHeadFrom8(DeepLabV3PlusHead):
    """Bring the pyramid from stride 8."""

    request: ClassVar = FeatureRequest(strides=(4, 8))
