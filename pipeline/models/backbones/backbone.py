"""Define what a backbone says of itself: its channels at each stride, the sizes and options that it takes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, ClassVar

from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.models.preprocessing import IMAGENET_PREPROCESSING, Preprocessing


@dataclass(frozen=True, kw_only=True)
class FeatureRequest:
    """Say what a head asks of the backbone.

    strides: of the levels that it takes, in pixels, the finest first; the last is the stride the backbone goes down to.
    average_pool: end with a 3x3 average pool of stride 1, where the backbone has one for that.
    """

    strides: tuple[int, ...]
    average_pool: bool = False


@dataclass(frozen=True, kw_only=True)
class FeatureInfo:
    """Say what a backbone gives to a head that made a request.

    channels: of each level asked for, the finest first.
    step: the backbone takes sides of step * m + 1 pixels.
    fc_channels: of the layers fc6 and fc7 that belong between these features and a classifier; 0 where none do.
    """

    channels: tuple[int, ...]
    step: int
    fc_channels: int = 0


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """Set behaviour that leaves every weight's shape alone and so must travel with the weights."""


class Backbone(nn.Module):
    """Map pictures (N, 3, H, W) to features (N, C, (H-1)/s + 1, (W-1)/s + 1) at each stride s.

    A subclass sets the class variables, builds its layers in __init__ and returns them by level from `stages`.

    levels: for each stride, in pixels, that the backbone can go down to: its channels at each stride on the way.
    fc_channels: as in FeatureInfo.
    options_type: the BackboneOptions that it is built with.
    preprocessing: of a network that begins with random weights.
    released_crf: keyword arguments of `pipeline.refine.crf.CRFParams` that its authors released with their networks.
    """

    levels: ClassVar[Mapping[int, Mapping[int, int]]]
    fc_channels: ClassVar[int] = 0
    options_type: ClassVar[type] = NoneType
    preprocessing: ClassVar[Preprocessing] = IMAGENET_PREPROCESSING
    released_crf: ClassVar[Mapping[str, int]] = {}

    def __init__(self, request: FeatureRequest, options: Any = None) -> None:
        """Build for `request`, which `feature_info` accepts, with random weights; `options` is an `options_type`."""
        super().__init__()
        self.strides = request.strides
        self.options = options

    @classmethod
    def feature_info(cls, request: FeatureRequest) -> FeatureInfo:
        """Return what the backbone gives for `request`. Raises ConfigError where it has no such levels."""
        step = request.strides[-1]
        levels = cls.levels.get(step, {})
        if missing := [stride for stride in request.strides if stride not in levels]:
            raise ConfigError(f"it has no features at stride {missing[0]} on the way to stride {step}")
        channels = tuple(levels[stride] for stride in request.strides)
        return FeatureInfo(channels=channels, step=step, fc_channels=cls.fc_channels)

    def stages(self) -> Iterable[tuple[int, Iterable[nn.Module]]]:
        """Return the stride of each level and the layers that lead to it from the level before, the finest first."""
        raise NotImplementedError

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Return the features at the strides asked for, the finest first, of preprocessed pictures (N, 3, H, W)."""
        x = pictures
        features = []
        for stride, layers in self.stages():
            for layer in layers:
                x = layer(x)  # (N, C, (H-1)/stride + 1, (W-1)/stride + 1) after the last
            if stride in self.strides:
                features.append(x)
        return tuple(features)
