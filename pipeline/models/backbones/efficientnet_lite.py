"""EfficientNet-Lite0 as an atrous trunk: the project's light network.

The published network (the EfficientNet-Lite release of TensorFlow's TPU models) has an output stride of 32. Here the
strides of its last blocks are removed and every later depthwise kernel is dilated instead, which leaves the weights
valid: at output stride 8 every fourth feature of this trunk is a feature of the published one, at 16 every second.

TensorFlow pads "SAME": at the valid sizes 8m+1 every strided layer sees an odd size, where SAME is symmetric padding.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.models.layers import ConvBatchNorm

BATCH_NORM_EPS = 1e-3


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A run of equal blocks. `dilation` holds from the second block on: the first still reads the previous grid."""

    blocks: int
    kernel: int
    expansion: int
    channels: int
    stride: int = 1
    first_dilation: int = 1
    dilation: int = 1


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
            layers["expand"] = ConvBatchNorm(in_channels, hidden, 1, eps=BATCH_NORM_EPS, activation=nn.ReLU6())
        layers["depthwise"] = ConvBatchNorm(
            hidden,
            hidden,
            kernel,
            stride=stride,
            dilation=dilation,
            groups=hidden,
            eps=BATCH_NORM_EPS,
            activation=nn.ReLU6(),
        )
        layers["project"] = ConvBatchNorm(hidden, channels, 1, eps=BATCH_NORM_EPS)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, channels, h / stride, w / stride)."""
        y = x
        for layer in self.children():
            y = layer(y)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """(N, 3, H, W) -> (N, 320, h, w) at output stride 8."""

    channels = 320

    def __init__(self, stages: Sequence[Stage] = STAGES_TO_8) -> None:
        super().__init__()
        self.stem = ConvBatchNorm(3, 32, 3, stride=2, eps=BATCH_NORM_EPS, activation=nn.ReLU6())
        blocks: list[nn.Module] = []
        channels = 32
        for stage in stages:
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
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """The features of preprocessed pictures."""
        features: Tensor = self.blocks(self.stem(x))
        return features


class EfficientNetLite0Pyramid(EfficientNetLite0):
    """(N, 3, H, W) of sizes 16m+1 -> features at strides 2 (16 channels), 4 (24), 8 (40) and 16 (320)."""

    levels = (16, 24, 40, 320)

    def __init__(self) -> None:
        super().__init__(STAGES_TO_16)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """The features of preprocessed pictures, the finest first."""
        first, second, third = itertools.accumulate(stage.blocks for stage in STAGES_TO_16[:3])
        at2: Tensor = self.blocks[:first](self.stem(x))
        at4: Tensor = self.blocks[first:second](at2)
        at8: Tensor = self.blocks[second:third](at4)
        at16: Tensor = self.blocks[third:](at8)
        return at2, at4, at8, at16
