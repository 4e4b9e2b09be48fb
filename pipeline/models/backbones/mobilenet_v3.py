"""Build MobileNetV3-Large as an atrous backbone at output stride 16 (arXiv 1905.02244, table 1 and section 6.4).

As torchvision's segmentation networks have it: the last stride is removed, and the last three depthwise kernels are
dilated by 2.
"""

from collections.abc import Iterable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.models.backbones.backbone import Backbone, FeatureRequest
from pipeline.models.layers import ConvBatchNorm

BATCH_NORM_EPS = 1e-3
CHANNELS = 960  # of the last convolution


class Block(NamedTuple):
    """Describe a block: its depthwise kernel, inner and outer channels, and what it has beyond the plain one."""

    kernel: int
    hidden: int
    channels: int
    excites: bool = False
    swishes: bool = False
    stride: int = 1
    dilation: int = 1


BLOCKS = (
    Block(3, 16, 16),
    Block(3, 64, 24, stride=2),
    Block(3, 72, 24),
    Block(5, 72, 40, excites=True, stride=2),
    Block(5, 120, 40, excites=True),
    Block(5, 120, 40, excites=True),
    Block(3, 240, 80, swishes=True, stride=2),
    Block(3, 200, 80, swishes=True),
    Block(3, 184, 80, swishes=True),
    Block(3, 184, 80, swishes=True),
    Block(3, 480, 112, excites=True, swishes=True),
    Block(3, 672, 112, excites=True, swishes=True),
    Block(5, 672, 160, excites=True, swishes=True, dilation=2),
    Block(5, 960, 160, excites=True, swishes=True, dilation=2),
    Block(5, 960, 160, excites=True, swishes=True, dilation=2),
)


class SqueezeExcitation(nn.Module):
    """Scale channels by what two small layers make of their means over the picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = (channels // 4 + 4) // 8 * 8  # a multiple of 8 that is at least nine tenths of a quarter
        squeezed += 8 if squeezed < 0.9 * (channels // 4) else 0
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, C, h, w)."""
        means = x.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
        return x * nn.functional.hardsigmoid(self.excite(torch.relu(self.squeeze(means))))


class InvertedResidual(nn.Module):
    """Expand with 1x1, filter each channel, perhaps excite, project with 1x1; the input is added where shapes agree."""

    def __init__(self, in_channels: int, block: Block) -> None:
        super().__init__()
        activation = nn.Hardswish if block.swishes else nn.ReLU
        layers: dict[str, nn.Module] = {}
        if block.hidden != in_channels:
            layers["expand"] = ConvBatchNorm(in_channels, block.hidden, 1, eps=BATCH_NORM_EPS, activation=activation())
        layers["depthwise"] = ConvBatchNorm(
            block.hidden,
            block.hidden,
            block.kernel,
            stride=block.stride,
            dilation=block.dilation,
            groups=block.hidden,
            eps=BATCH_NORM_EPS,
            activation=activation(),
        )
        if block.excites:
            layers["excitation"] = SqueezeExcitation(block.hidden)
        layers["project"] = ConvBatchNorm(block.hidden, block.channels, 1, eps=BATCH_NORM_EPS)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.residual = block.stride == 1 and in_channels == block.channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, h, w) -> (N, channels, h / stride, w / stride)."""
        y = x
        for layer in self.children():
            y = layer(y)
        return x + y if self.residual else y


class MobileNetV3Large(Backbone):
    """Map (N, 3, H, W) -> (N, 960, h, w) at output stride 16, and the finer levels on the way."""

    levels: ClassVar = {16: {2: 16, 4: 24, 8: 40, 16: CHANNELS}}

    def __init__(self, request: FeatureRequest, options: None = None) -> None:
        super().__init__(request, options)
        self.stem = ConvBatchNorm(3, 16, 3, stride=2, eps=BATCH_NORM_EPS, activation=nn.Hardswish())
        inputs = (16, *(block.channels for block in BLOCKS[:-1]))
        self.blocks = nn.Sequential(*map(InvertedResidual, inputs, BLOCKS))
        self.last = ConvBatchNorm(BLOCKS[-1].channels, CHANNELS, 1, eps=BATCH_NORM_EPS, activation=nn.Hardswish())

    def stages(self) -> Iterable[tuple[int, Iterable[nn.Module]]]:
        """Return the stem with the first block at stride 2, and what leads to the first block of each stride below."""
        blocks = list(self.blocks)
        return (2, [self.stem, blocks[0]]), (4, blocks[1:2]), (8, blocks[2:4]), (16, [*blocks[4:], self.last])
