"""Build ASPP, atrous spatial pyramid pooling (section 3.2 of the paper)."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from pipeline.models.backbones import FeatureInfo
from pipeline.models.heads.head import TWO_OR_MORE, Head, init_head


class ASPP(Head):
    """Sum one branch for each atrous rate.

    A branch is a 3x3 atrous convolution with bias; on VGG-16 it is fc6 (3x3 atrous) - fc7 (1x1) - fc8 (1x1) (figure
    7 b).
    """

    rate_counts: ClassVar = TWO_OR_MORE
    repeats_fc: ClassVar = True

    def __init__(self, features: FeatureInfo, classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(features, classes, rate) for rate in rates)
        init_head(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes, h, w) of one level of features (N, C, h, w)."""
        (x,) = features
        first, *rest = self.branches
        logits: Tensor = first(x)
        for branch in rest:
            logits = logits + branch(x)
        return logits

    def classifiers(self) -> list[nn.Module]:
        """Return the last layer of each branch."""
        return [list(branch.modules())[-1] for branch in self.branches]


def _branch(features: FeatureInfo, classes: int, rate: int) -> nn.Module:
    (in_channels,) = features.channels
    if not features.fc_channels:
        return nn.Conv2d(in_channels, classes, 3, padding=rate, dilation=rate)
    return nn.Sequential(
        OrderedDict(
            fc6=nn.Conv2d(in_channels, features.fc_channels, 3, padding=rate, dilation=rate),
            relu6=nn.ReLU(inplace=True),
            drop6=nn.Dropout(0.5),
            fc7=nn.Conv2d(features.fc_channels, features.fc_channels, 1),
            relu7=nn.ReLU(inplace=True),
            drop7=nn.Dropout(0.5),
            fc8=nn.Conv2d(features.fc_channels, classes, 1),
        )
    )
