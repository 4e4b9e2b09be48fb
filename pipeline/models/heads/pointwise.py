"""Build the head of the authors' COCO initialisation."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from pipeline.models.backbones import FeatureInfo
from pipeline.models.heads.head import Head, init_head


class Pointwise(nn.Conv2d, Head):
    """Classify by a single 1x1 convolution, without atrous rates."""

    rate_counts: ClassVar = range(1)

    def __init__(self, features: FeatureInfo, classes: int, _: Sequence[int] = ()) -> None:
        (in_channels,) = features.channels
        super().__init__(in_channels, classes, 1)
        init_head(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:  # type: ignore[override]  # a Head first
        """Return the logits (N, classes, h, w) of one level of features (N, C, h, w)."""
        (x,) = features
        return super().forward(x)

    def classifiers(self) -> list[nn.Module]:
        """Return the convolution itself."""
        return [self]
