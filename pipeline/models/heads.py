"""Heads: from the trunk's features (N, C_in, h, w) to class scores (N, C, h, w) on the same grid."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.layers import ConvBatchNorm

INIT_STD = 0.01
FC_CHANNELS = 1024
DEEPLABV3_CHANNELS = 256
DECODER_CHANNELS = (32, 32, 64, 128)  # at strides 2, 4, 8 and 16


class BranchSum(nn.Module):
    """Parallel branches on the same features, summed."""

    def __init__(self, branches: Iterable[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        init_head(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, classes, h, w)."""
        first, *rest = self.branches
        scores: Tensor = first(x)
        for branch in rest:
            scores = scores + branch(x)
        return scores


class ASPP(BranchSum):
    """Atrous spatial pyramid pooling: one 3x3 atrous convolution with bias for each rate, summed (section 3.2).

    One rate makes it the LargeFOV head of a ResNet.
    """

    def __init__(self, in_channels: int, classes: int, rates: Sequence[int]) -> None:
        super().__init__(nn.Conv2d(in_channels, classes, 3, padding=rate, dilation=rate) for rate in rates)


class FullyConvolutionalASPP(BranchSum):
    """VGG-16's ASPP: for each rate a branch fc6 (3x3 atrous) - fc7 (1x1) - fc8 (1x1), summed (figure 7 b).

    One rate makes it VGG-16's LargeFOV.
    """

    def __init__(self, in_channels: int, classes: int, rates: Sequence[int]) -> None:
        super().__init__(_fc_branch(in_channels, classes, rate) for rate in rates)


class Pointwise(nn.Conv2d):
    """A single 1x1 convolution: the head of the authors' COCO initialisation."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes, 1)
        init_head(self)


class ImagePooling(nn.Module):
    """The mean over the picture through a 1x1 convolution, spread back over the grid."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.project = ConvBatchNorm(in_channels, channels, 1, activation=nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, channels, h, w), the same at every point."""
        pooled: Tensor = self.project(x.mean(dim=(2, 3), keepdim=True))  # (N, C, 1, 1)
        return pooled.expand(-1, -1, *x.shape[-2:])


class DeepLabV3Head(nn.Module):
    """The head of DeepLab v3 (arXiv 1706.05587, figure 5) as torchvision's weights have it.

    A 1x1 branch, three 3x3 atrous branches and image pooling are concatenated and projected; a 3x3 convolution and the
    classifier follow.
    """

    def __init__(self, in_channels: int, classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        channels = DEEPLABV3_CHANNELS
        pointwise = ConvBatchNorm(in_channels, channels, 1, activation=nn.ReLU(inplace=True))
        atrous = (
            ConvBatchNorm(in_channels, channels, 3, dilation=rate, activation=nn.ReLU(inplace=True)) for rate in rates
        )
        self.branches = nn.ModuleList([pointwise, *atrous, ImagePooling(in_channels, channels)])
        self.project = ConvBatchNorm(len(self.branches) * channels, channels, 1, activation=nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(0.5)
        self.refine = ConvBatchNorm(channels, channels, 3, activation=nn.ReLU(inplace=True))
        self.classifier = nn.Conv2d(channels, classes, 1)
        init_head(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, classes, h, w)."""
        pyramid = torch.cat([branch(x) for branch in self.branches], dim=1)  # (N, 5 * 256, h, w)
        scores: Tensor = self.classifier(self.refine(self.dropout(self.project(pyramid))))
        return scores


class Decoder(nn.Module):
    """ASPP at stride 16, brought to stride 2 in steps that each join the trunk's own features of twice as fine a grid.

    The sum of atrous branches is that of DeepLab v2. The way back to finer features is that of DeepLab v3+ (arXiv
    1802.02611, figure 2), in a step for each level.
    """

    def __init__(self, levels: Sequence[int], classes: int, rates: Sequence[int]) -> None:
        """Take features of `levels` channels, the finest first: as many as DECODER_CHANNELS."""
        super().__init__()
        *finer, coarse = levels
        steps = list(pairwise(DECODER_CHANNELS))
        self.branches = nn.ModuleList(ConvBatchNorm(coarse, DECODER_CHANNELS[-1], 3, dilation=rate) for rate in rates)
        self.laterals = nn.ModuleList(
            ConvBatchNorm(level, wide, 1) for level, (_, wide) in zip(finer, steps, strict=True)
        )
        self.smooths = nn.ModuleList(
            ConvBatchNorm(wide, narrow, 3, activation=nn.ReLU(inplace=True)) for narrow, wide in steps
        )
        self.classifier = nn.Conv2d(DECODER_CHANNELS[0], classes, 1)
        init_head(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features of each level, each grid twice the next less one, -> (N, classes, h, w) on the finest grid."""
        *finer, coarse = features
        context: Tensor = sum(branch(coarse) for branch in self.branches)
        x = torch.relu(context)  # (N, 128, h/8, w/8)
        for level, lateral, smooth in reversed(list(zip(finer, self.laterals, self.smooths, strict=True))):
            x = smooth(torch.relu(_twice(x) + lateral(level)))  # (N, 64, h/4, w/4), (N, 32, h/2, w/2), (N, 32, h, w)
        scores: Tensor = self.classifier(x)
        return scores


def _twice(x: Tensor) -> Tensor:
    """Twice as fine a grid between the same corners."""
    rows, columns = x.shape[-2:]
    return functional.interpolate(x, size=(2 * rows - 1, 2 * columns - 1), mode="bilinear", align_corners=True)


def init_head(head: nn.Module) -> None:
    """Draw every convolution from N(0, 0.01) with zero bias, as the authors' solver does for new layers."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=INIT_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _fc_branch(in_channels: int, classes: int, rate: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            fc6=nn.Conv2d(in_channels, FC_CHANNELS, 3, padding=rate, dilation=rate),
            relu6=nn.ReLU(inplace=True),
            drop6=nn.Dropout(0.5),
            fc7=nn.Conv2d(FC_CHANNELS, FC_CHANNELS, 1),
            relu7=nn.ReLU(inplace=True),
            drop7=nn.Dropout(0.5),
            fc8=nn.Conv2d(FC_CHANNELS, classes, 1),
        )
    )
