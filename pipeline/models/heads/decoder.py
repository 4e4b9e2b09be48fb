"""Build the decoder: ASPP at stride 16, brought to stride 2 by joining the backbone's own features, finer at each step.

The sum of atrous branches is that of DeepLab v2. The way back to finer features is that of DeepLab v3+ (arXiv
1802.02611, figure 2), in a step for each level.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.backbones import FeatureInfo, FeatureRequest
from pipeline.models.heads.head import TWO_OR_MORE, Head, init_head
from pipeline.models.layers import ConvBatchNorm

CHANNELS = (32, 32, 64, 128)  # at strides 2, 4, 8 and 16


class Decoder(Head):
    """Sum atrous branches at stride 16, and join finer features to them on the way to stride 2."""

    request: ClassVar = FeatureRequest(strides=(2, 4, 8, 16))
    rate_counts: ClassVar = TWO_OR_MORE
    output_stride: ClassVar = 2

    def __init__(self, features: FeatureInfo, classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        *finer, coarse = features.channels
        steps = list(pairwise(CHANNELS))
        self.branches = nn.ModuleList(ConvBatchNorm(coarse, CHANNELS[-1], 3, dilation=rate) for rate in rates)
        self.laterals = nn.ModuleList(
            ConvBatchNorm(level, wide, 1) for level, (_, wide) in zip(finer, steps, strict=True)
        )
        self.smooths = nn.ModuleList(
            ConvBatchNorm(wide, narrow, 3, activation=nn.ReLU(inplace=True)) for narrow, wide in steps
        )
        self.classifier = nn.Conv2d(CHANNELS[0], classes, 1)
        init_head(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, h, w) on the finest grid, of features whose grids each are twice the next."""
        *finer, coarse = features
        context: Tensor = sum(branch(coarse) for branch in self.branches)
        x = torch.relu(context)  # (N, 128, h/8, w/8)
        for level, lateral, smooth in reversed(list(zip(finer, self.laterals, self.smooths, strict=True))):
            x = smooth(torch.relu(_twice(x) + lateral(level)))  # (N, 64, h/4, w/4), (N, 32, h/2, w/2), (N, 32, h, w)
        logits: Tensor = self.classifier(x)
        return logits

    def classifiers(self) -> list[nn.Module]:
        """Return the last convolution."""
        return [self.classifier]


def _twice(x: Tensor) -> Tensor:
    """Interpolate twice as fine a grid between the same corners: (N, C, h, w) -> (N, C, 2h - 1, 2w - 1)."""
    rows, columns = x.shape[-2:]
    return functional.interpolate(x, size=(2 * rows - 1, 2 * columns - 1), mode="bilinear", align_corners=True)
