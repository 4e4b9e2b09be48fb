"""Build the head of DeepLab v3+ with its separable convolutions (arXiv 1802.02611, section 3.2), as smp has it."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.backbones import FeatureInfo, FeatureRequest
from pipeline.models.depthwise import Depthwise
from pipeline.models.heads.deeplabv3 import CHANNELS, ImagePooling
from pipeline.models.heads.head import Head, init_head
from pipeline.models.layers import ConvBatchNorm

FINE_CHANNELS = 48


class Separable(nn.Module):
    """Filter each channel by a 3x3 kernel, perhaps atrous, then mix channels by 1x1 and normalise."""

    def __init__(self, in_channels: int, out_channels: int, rate: int = 1) -> None:
        super().__init__()
        self.depthwise = Depthwise(in_channels, in_channels, 3, 1, rate, rate, in_channels, bias=False)
        self.pointwise = ConvBatchNorm(in_channels, out_channels, 1, activation=nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, h, w) -> (N, out_channels, h, w)."""
        mixed: Tensor = self.pointwise(self.depthwise(x))
        return mixed


class SeparableDeepLabV3PlusHead(Head):
    """Bring the pyramid from stride 16 to stride 4, and classify it together with features there."""

    request: ClassVar = FeatureRequest(strides=(4, 16))
    rate_counts: ClassVar = range(3, 4)
    output_stride: ClassVar = 4

    def __init__(self, features: FeatureInfo, classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        fine, coarse = features.channels
        pointwise = ConvBatchNorm(coarse, CHANNELS, 1, activation=nn.ReLU(inplace=True))
        atrous = (Separable(coarse, CHANNELS, rate) for rate in rates)
        self.branches = nn.ModuleList([pointwise, *atrous, ImagePooling(coarse, CHANNELS)])
        self.project = ConvBatchNorm(len(self.branches) * CHANNELS, CHANNELS, 1, activation=nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(0.5)
        self.smooth = Separable(CHANNELS, CHANNELS)
        self.reduce = ConvBatchNorm(fine, FINE_CHANNELS, 1, activation=nn.ReLU(inplace=True))
        self.refine = Separable(CHANNELS + FINE_CHANNELS, CHANNELS)
        self.classifier = nn.Conv2d(CHANNELS, classes, 1)
        init_head(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, h, w) on the finer grid."""
        fine, coarse = features
        pyramid = torch.cat([branch(coarse) for branch in self.branches], dim=1)  # (N, 5 * 256, h / 4, w / 4)
        x = self.smooth(self.dropout(self.project(pyramid)))
        x = functional.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=True)
        logits: Tensor = self.classifier(self.refine(torch.cat([x, self.reduce(fine)], dim=1)))
        return logits

    def classifiers(self) -> list[nn.Module]:
        """Return the last convolution."""
        return [self.classifier]


class SeparableDeepLabV3PlusHeadFrom8(SeparableDeepLabV3PlusHead):
    """Bring the pyramid from stride 8."""

    request: ClassVar = FeatureRequest(strides=(4, 8))
