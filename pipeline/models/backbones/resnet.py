"""ResNet-50 and ResNet-101 as atrous trunks at output stride 8.

Layers are numbered as in the authors' nets: layer2 to layer5 are res2 to res5. The strides of layer4 and layer5 are
removed and their 3x3 convolutions dilated by 2 and 4. What weights of equal shape disagree on is in `ResNetStyle`.
"""

from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.architecture import ResNetStyle
from pipeline.models.layers import ConvBatchNorm

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1 to fewer channels, 3x3 on those, 1x1 back up, added to the shortcut."""

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
        """(N, in_channels, h, w) -> (N, channels, h / stride, w / stride)."""
        y = self.increase(self.conv3x3(self.reduce(x)))
        return functional.relu_(y + self.shortcut(x))


class ResNet(nn.Module):
    """(N, 3, H, W) -> (N, 2048, h, w) at output stride 8."""

    channels = 2048

    def __init__(self, blocks: tuple[int, int, int, int], style: ResNetStyle) -> None:
        super().__init__()
        self.stem = ConvBatchNorm(3, 64, 7, stride=2, activation=nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=style.ceil_pool)
        self.layer2 = _layer(blocks[0], 64, 256, stride=1, dilation=1, first_dilation=1, style=style)
        self.layer3 = _layer(blocks[1], 256, 512, stride=2, dilation=1, first_dilation=1, style=style)
        first4, first5 = (2, 4) if style.dilate_first_block else (1, 2)
        self.layer4 = _layer(blocks[2], 512, 1024, stride=1, dilation=2, first_dilation=first4, style=style)
        self.layer5 = _layer(blocks[3], 1024, 2048, stride=1, dilation=4, first_dilation=first5, style=style)

    def forward(self, x: Tensor) -> Tensor:
        """The features of preprocessed pictures."""
        x = self.pool(self.stem(x))  # (N, 64, H/4, W/4)
        features: Tensor = self.layer5(self.layer4(self.layer3(self.layer2(x))))
        return features


def _layer(
    blocks: int, in_channels: int, channels: int, *, stride: int, dilation: int, first_dilation: int, style: ResNetStyle
) -> nn.Sequential:
    first = Bottleneck(in_channels, channels, stride=stride, dilation=first_dilation, project=True, style=style)
    rest = (
        Bottleneck(channels, channels, stride=1, dilation=dilation, project=False, style=style)
        for _ in range(blocks - 1)
    )
    return nn.Sequential(first, *rest)
