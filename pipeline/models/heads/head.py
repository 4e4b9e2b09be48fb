"""Define what a head says of itself: features asked for, atrous rates, output stride, layers that classify."""

import sys
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from pipeline.models.backbones import FeatureRequest

INIT_STD = 0.01
TWO_OR_MORE = range(2, sys.maxsize)


class Head(nn.Module):
    """Map a backbone's features, each (N, C, h, w), to logits (N, classes, h, w) at the output stride.

    A subclass sets the class variables, and builds its layers in __init__ from what the backbone gives on its request
    (a FeatureInfo), the number of classes and the atrous rates.

    request: what it asks of the backbone.
    rate_counts: how many atrous rates it can have.
    output_stride: of its logits, in pixels.
    repeats_fc: whether its branches have the layers fc6 and fc7 where the backbone says that they belong there.
    """

    request: ClassVar[FeatureRequest] = FeatureRequest(strides=(8,))
    rate_counts: ClassVar[range]
    output_stride: ClassVar[int] = 8
    repeats_fc: ClassVar[bool] = False

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the logits of the features that were asked for, the finest first."""
        raise NotImplementedError

    def classifiers(self) -> list[nn.Module]:
        """Return the layers that give the logits, which training gives a learning rate of their own."""
        raise NotImplementedError


def init_head(head: nn.Module) -> None:
    """Draw every convolution from N(0, 0.01) with zero bias, as the authors' solver does for new layers."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=INIT_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
