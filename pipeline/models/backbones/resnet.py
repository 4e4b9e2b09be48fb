"""Build ResNet-50 and ResNet-101 as atrous backbones at output stride 8 or 16.

Layers are numbered as in the authors' nets: layer2 to layer5 are res2 to res5. At stride 8 the strides of layer4 and
layer5 are removed and their 3x3 convolutions dilated by 2 and 4; at stride 16 those of layer5 alone, by 2. What weights
of equal shape disagree on is in `ResNetStyle`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import ConfigError
from pipeline.models.backbones.backbone import Backbone, BackboneOptions, FeatureRequest
from pipeline.models.layers import ConvBatchNorm

EXPANSION = 4


@dataclass(frozen=True, kw_only=True)
class ResNetStyle(BackboneOptions):
    """Say in which of the published ways a ResNet was trained.

    stride_on: the convolution of a bottleneck that carries its stride: the first 1x1 (MSRA) or the 3x3 (torchvision).
    ceil_pool: whether the first max-pool rounds its output size up (Caffe) or down.
    dilate_first_block: whether the first block of a dilated layer has that layer's dilation (the authors), or still the
        previous layer's (torchvision).
    """

    stride_on: Literal["1x1", "3x3"]
    ceil_pool: bool
    dilate_first_block: bool

    def __post_init__(self) -> None:
        if self.stride_on not in ("1x1", "3x3"):
            raise ConfigError(f"stride_on is {self.stride_on!r}; it must be '1x1' or '3x3'")


CAFFE_RESNET = ResNetStyle(stride_on="1x1", ceil_pool=True, dilate_first_block=True)
TORCHVISION_RESNET = ResNetStyle(stride_on="3x3", ceil_pool=False, dilate_first_block=False)
SMP_RESNET = ResNetStyle(stride_on="3x3", ceil_pool=False, dilate_first_block=True)


class Bottleneck(nn.Module):
    """Add to the shortcut: 1x1 to fewer channels, 3x3 on those, 1x1 back up."""

    def __init__(
        self, in_channels: int, channels: int, *, stride: int, dilation: int, project: bool, style: ResNetStyle
    ) -> None:
        super().__init__()
        middle = channels // EXPANSION
        outer, inner = (stride, 1) if style.stride_on == "1x1" else (1, stride)
        self.reduce = ConvBatchNorm(in_channels, middle, 1, stride=outer, activation=nn.ReLU(inplace=True))
        self.conv3x3 = ConvBatchNorm(
            middle, middle, 3, stride=inner, dilation=dilation, activation=nn.ReLU(inplace=True)
        )
        self.increase = ConvBatchNorm(middle, channels, 1)
        self.shortcut = ConvBatchNorm(in_channels, channels, 1, stride=stride) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, h, w) -> (N, channels, h / stride, w / stride)."""
        y = self.increase(self.conv3x3(self.reduce(x)))  # (N, channels, h / stride, w / stride)
        return functional.relu_(y + self.shortcut(x))


class ResNet(Backbone):
    """Map (N, 3, H, W) -> (N, 2048, h, w) at output stride 8 or 16. A subclass says how many blocks each layer has."""

    blocks: ClassVar[tuple[int, int, int, int]]
    levels: ClassVar = {8: {2: 64, 4: 256, 8: 2048}, 16: {2: 64, 4: 256, 8: 512, 16: 2048}}
    options_type: ClassVar = ResNetStyle
    released_crf: ClassVar = {
        "gaussian_weight": 3,
        "gaussian_xy": 1,
        "bilateral_weight": 4,
        "bilateral_xy": 67,
        "bilateral_rgb": 3,
    }

    def __init__(self, request: FeatureRequest, options: ResNetStyle) -> None:
        super().__init__(request, options)
        self.stem = ConvBatchNorm(3, 64, 7, stride=2, activation=nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=options.ceil_pool)
        to_16 = request.strides[-1] == 16
        stride4, rate4, rate5 = (2, 1, 2) if to_16 else (1, 2, 4)
        first4, first5 = (rate4, rate5) if options.dilate_first_block else (1, rate4)
        blocks = self.blocks
        self.layer2 = _layer(blocks[0], 64, 256, stride=1, dilation=1, first_dilation=1, style=options)
        self.layer3 = _layer(blocks[1], 256, 512, stride=2, dilation=1, first_dilation=1, style=options)
        self.layer4 = _layer(blocks[2], 512, 1024, stride=stride4, dilation=rate4, first_dilation=first4, style=options)
        self.layer5 = _layer(blocks[3], 1024, 2048, stride=1, dilation=rate5, first_dilation=first5, style=options)

    def stages(self) -> Iterable[tuple[int, Iterable[nn.Module]]]:
        """Return conv1 at stride 2, res2 at stride 4, res3 at stride 8, and res4 and res5 there or at stride 16."""
        finer = (2, [self.stem]), (4, [self.pool, self.layer2])
        if self.strides[-1] == 16:
            return *finer, (8, [self.layer3]), (16, [self.layer4, self.layer5])
        return *finer, (8, [self.layer3, self.layer4, self.layer5])


class ResNet50(ResNet):
    """Have the blocks of ResNet-50."""

    blocks: ClassVar = (3, 4, 6, 3)


class ResNet101(ResNet):
    """Have the blocks of ResNet-101."""

    blocks: ClassVar = (3, 4, 23, 3)


def _layer(
    blocks: int, in_channels: int, channels: int, *, stride: int, dilation: int, first_dilation: int, style: ResNetStyle
) -> nn.Sequential:
    first = Bottleneck(in_channels, channels, stride=stride, dilation=first_dilation, project=True, style=style)
    rest = (
        Bottleneck(channels, channels, stride=1, dilation=dilation, project=False, style=style)
        for _ in range(blocks - 1)
    )
    return nn.Sequential(first, *rest)
