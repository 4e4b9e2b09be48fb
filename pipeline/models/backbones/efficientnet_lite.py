"""Build EfficientNet-Lite0, the project's light network, and Lite2 as atrous backbones.

The published networks (the EfficientNet-Lite release of TensorFlow's TPU models) have an output stride of 32. Here the
strides of its last blocks are removed and every later depthwise kernel is dilated instead, which leaves the weights
valid: at output stride 8 every fourth feature of a backbone is a feature of the published one, at 16 every second.

TensorFlow pads "SAME": at the valid sizes 8m+1 every strided layer sees an odd size, where SAME is symmetric padding.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from pipeline.models.backbones.backbone import Backbone, FeatureRequest
from pipeline.models.layers import ConvBatchNorm

BATCH_NORM_EPS = 1e-3


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Describe equal blocks in a row. `dilation` holds from the second on: the first still reads the previous grid."""

    blocks: int
    kernel: int
    expansion: int
    channels: int
    stride: int = 1
    first_dilation: int = 1
    dilation: int = 1

    def grown(self, width: float, depth: float) -> "Stage":
        """Multiply the channels, to the nearest multiple of 8, and the blocks, rounded up (arXiv 1905.11946)."""
        return replace(self, channels=8 * int(self.channels * width / 8 + 0.5), blocks=math.ceil(self.blocks * depth))


STAGES_TO_8 = (
    Stage(blocks=1, kernel=3, expansion=1, channels=16),
    Stage(blocks=2, kernel=3, expansion=6, channels=24, stride=2),
    Stage(blocks=2, kernel=5, expansion=6, channels=40, stride=2),
    Stage(blocks=3, kernel=3, expansion=6, channels=80, dilation=2),
    Stage(blocks=3, kernel=5, expansion=6, channels=112, first_dilation=2, dilation=2),
    Stage(blocks=4, kernel=5, expansion=6, channels=192, first_dilation=2, dilation=4),
    Stage(blocks=1, kernel=3, expansion=6, channels=320, first_dilation=4),
)

STAGES_TO_16 = (
    *STAGES_TO_8[:3],
    Stage(blocks=3, kernel=3, expansion=6, channels=80, stride=2),
    Stage(blocks=3, kernel=5, expansion=6, channels=112),
    Stage(blocks=4, kernel=5, expansion=6, channels=192, dilation=2),
    Stage(blocks=1, kernel=3, expansion=6, channels=320, first_dilation=2),
)


class InvertedResidual(nn.Module):
    """Expand with 1x1, filter each channel, project with 1x1; the input is added where the shapes agree."""

    def __init__(
        self, in_channels: int, channels: int, *, kernel: int, expansion: int, stride: int, dilation: int
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: dict[str, nn.Module] = {}
        if expansion != 1:
            layers["expand"] = ConvBatchNorm(
                in_channels, hidden, 1, eps=BATCH_NORM_EPS, activation=nn.ReLU6(inplace=True)
            )
        layers["depthwise"] = ConvBatchNorm(
            hidden,
            hidden,
            kernel,
            stride=stride,
            dilation=dilation,
            groups=hidden,
            eps=BATCH_NORM_EPS,
            activation=nn.ReLU6(inplace=True),
        )
        layers["project"] = ConvBatchNorm(hidden, channels, 1, eps=BATCH_NORM_EPS)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, h, w) -> (N, channels, h / stride, w / stride)."""
        y = x
        for layer in self.children():
            y = layer(y)
        return x + y if self.residual else y


def grown(stages: Sequence[Stage], width: float, depth: float) -> tuple[Stage, ...]:
    """Make a larger network of Lite0's stages; the first and the last keep their one block, as the Lite networks do."""
    first, *middle, last = stages
    return (first.grown(width, 1), *(stage.grown(width, depth) for stage in middle), last.grown(width, 1))


FINEST_STRIDE = 2  # the stem's


class EfficientNetLite(Backbone):
    """Map (N, 3, H, W) -> (N, C, h, w) at output stride 8 or 16, and to the finer levels on the way.

    A subclass sets its `levels`, and `plans`: its stages for each output stride.
    """

    plans: ClassVar[Mapping[int, Sequence[Stage]]]

    def __init__(self, request: FeatureRequest, options: None = None) -> None:
        super().__init__(request, options)
        self.stem = ConvBatchNorm(3, 32, 3, stride=2, eps=BATCH_NORM_EPS, activation=nn.ReLU6(inplace=True))
        blocks: list[nn.Module] = []
        channels, stride = 32, FINEST_STRIDE
        self._ends: dict[int, int] = {}  # of each level, by its stride: one past its last block
        for stage in self.plans[request.strides[-1]]:
            stride *= stage.stride
            for index in range(stage.blocks):
                block = InvertedResidual(
                    channels,
                    stage.channels,
                    kernel=stage.kernel,
                    expansion=stage.expansion,
                    stride=stage.stride if index == 0 else 1,
                    dilation=stage.first_dilation if index == 0 else stage.dilation,
                )
                blocks.append(block)
                channels = stage.channels
            self._ends[stride] = len(blocks)
        self.blocks = nn.Sequential(*blocks)

    def stages(self) -> Iterable[tuple[int, Iterable[nn.Module]]]:
        """Return the stem with the first blocks at stride 2, and the runs of blocks down to each stride below."""
        begin = 0
        for stride, end in self._ends.items():
            yield stride, [*([self.stem] if begin == 0 else []), *list(self.blocks)[begin:end]]
            begin = end


class EfficientNetLite0(EfficientNetLite):
    """Build the smallest network: 75.1% top-1 on ImageNet."""

    levels: ClassVar = {8: {2: 16, 4: 24, 8: 320}, 16: {2: 16, 4: 24, 8: 40, 16: 320}}
    plans: ClassVar = {8: STAGES_TO_8, 16: STAGES_TO_16}


class EfficientNetLite2(EfficientNetLite):
    """Build the network of width 1.1 and depth 1.2: 77.6% top-1 on ImageNet."""

    levels: ClassVar = {8: {2: 16, 4: 24, 8: 352}, 16: {2: 16, 4: 24, 8: 48, 16: 352}}
    plans: ClassVar = {stride: grown(stages, 1.1, 1.2) for stride, stages in EfficientNetLite0.plans.items()}
