"""Build the head of DeepLab v3 (arXiv 1706.05587, figure 5) as torchvision's weights have it."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.models.backbones import FeatureInfo, FeatureRequest
from pipeline.models.heads.head import Head, init_head
from pipeline.models.layers import ConvBatchNorm

CHANNELS = 256


class ImagePooling(nn.Module):
    """Take the mean over the picture through a 1x1 convolution, and spread it back over the grid."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.project = ConvBatchNorm(in_channels, channels, 1, activation=nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, h, w) -> (N, channels, h, w), the same at every point."""
        pooled: Tensor = self.project(x.mean(dim=(2, 3), keepdim=True))  # (N, C, 1, 1)
        return pooled.expand(-1, -1, *x.shape[-2:])


class DeepLabV3Head(Head):
    """Concatenate and project a 1x1 branch, three 3x3 atrous branches and image pooling; classify behind a 3x3."""

    rate_counts: ClassVar = range(3, 4)

    def __init__(self, features: FeatureInfo, classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        (in_channels,) = features.channels
        pointwise = ConvBatchNorm(in_channels, CHANNELS, 1, activation=nn.ReLU(inplace=True))
        atrous = (
            ConvBatchNorm(in_channels, CHANNELS, 3, dilation=rate, activation=nn.ReLU(inplace=True)) for rate in rates
        )
        self.branches = nn.ModuleList([pointwise, *atrous, ImagePooling(in_channels, CHANNELS)])
        self.project = ConvBatchNorm(len(self.branches) * CHANNELS, CHANNELS, 1, activation=nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(0.5)
        self.refine = ConvBatchNorm(CHANNELS, CHANNELS, 3, activation=nn.ReLU(inplace=True))
        self.classifier = nn.Conv2d(CHANNELS, classes, 1)
        init_head(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, h, w) of one level of features (N, C, h, w)."""
        (x,) = features
        pyramid = torch.cat([branch(x) for branch in self.branches], dim=1)  # (N, 5 * 256, h, w)
        logits: Tensor = self.classifier(self.refine(self.dropout(self.project(pyramid))))
        return logits

    def classifiers(self) -> list[nn.Module]:
        """Return the last convolution."""
        return [self.classifier]


class DeepLabV3HeadAt16(DeepLabV3Head):
    """Take the features of stride 16, and give the logits there."""

    request: ClassVar = FeatureRequest(strides=(16,))
    output_stride: ClassVar = 16
