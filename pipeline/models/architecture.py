"""What network it is: trunk, head, atrous rates, and the behaviour that a ResNet's weights were trained with."""

from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.errors import ConfigError

OUTPUT_STRIDE = 8
DECODER_STRIDE = 2
DECODER_STEP = 16
MAX_RATE = 1024

Trunk = Literal["efficientnet_lite0", "vgg16", "resnet50", "resnet101"]
Head = Literal["aspp", "largefov", "pointwise", "deeplabv3", "decoder"]


@dataclass(frozen=True, kw_only=True)
class ResNetStyle:
    """Behaviour that leaves every weight's shape alone and so must travel with the weights.

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


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A trunk and a head on it.

    head: `aspp` sums one branch for each atrous rate; `largefov` is a single branch; `pointwise` a single 1x1
        convolution (the COCO initialisation); `deeplabv3` the later paper's head, with batch normalisation and image
        pooling; `decoder` sums branches as `aspp` does, at stride 16, and joins finer features to them on the way to
        stride 2. On VGG-16, `aspp` and `largefov` have the fc6-fc7-fc8 branches of the paper.
    resnet: behaviour of a ResNet trunk; None for the other trunks.
    """

    trunk: Trunk
    head: Head
    rates: tuple[int, ...]
    resnet: ResNetStyle | None = None

    def __post_init__(self) -> None:
        if self.trunk not in get_args(Trunk):
            raise ConfigError(f"trunk is {self.trunk!r}; it must be one of {', '.join(get_args(Trunk))}")
        if self.head not in get_args(Head):
            raise ConfigError(f"head is {self.head!r}; it must be one of {', '.join(get_args(Head))}")
        if not all(1 <= rate <= MAX_RATE for rate in self.rates):
            raise ConfigError(f"atrous rates are {self.rates}; each must be from 1 to {MAX_RATE}")
        wrong_count = {
            "aspp": len(self.rates) < 2,
            "largefov": len(self.rates) != 1,
            "pointwise": bool(self.rates),
            "deeplabv3": len(self.rates) != 3,
            "decoder": len(self.rates) < 2,
        }
        if wrong_count[self.head]:
            raise ConfigError(f"a head {self.head!r} cannot have the atrous rates {self.rates}")
        if self.is_resnet != (self.resnet is not None):
            raise ConfigError(f"`resnet` belongs to a ResNet trunk and to no other; the trunk is {self.trunk!r}")
        if self.head in ("pointwise", "deeplabv3") and not self.is_resnet:
            raise ConfigError(f"the head {self.head!r} is defined on a ResNet trunk only, not on {self.trunk!r}")
        if self.head == "decoder" and self.trunk != "efficientnet_lite0":
            raise ConfigError(f"the head 'decoder' is defined on an efficientnet_lite0 trunk, not on {self.trunk!r}")

    @property
    def stride(self) -> int:
        """Output stride, in pixels: the scores' grid."""
        return DECODER_STRIDE if self.head == "decoder" else OUTPUT_STRIDE

    @property
    def step(self) -> int:
        """The trunk takes sides of step * m + 1 pixels."""
        return DECODER_STEP if self.head == "decoder" else OUTPUT_STRIDE

    @property
    def is_resnet(self) -> bool:
        """Whether the trunk is a ResNet."""
        return self.trunk in ("resnet50", "resnet101")


LARGE_RATES = (6, 12, 18, 24)
SMALL_RATES = (2, 4, 8, 12)
LARGE_FIELD_OF_VIEW = (12,)
DEEPLABV3_RATES = (12, 24, 36)
DECODER_RATES = (1, 3, 6, 9)  # at stride 16: the reach of 2, 6, 12 and 18 at stride 8

ARCHITECTURES = {
    "deeplabv2-efficientnet-lite0-aspp": Architecture(trunk="efficientnet_lite0", head="aspp", rates=LARGE_RATES),
    "deeplab-efficientnet-lite0-decoder": Architecture(trunk="efficientnet_lite0", head="decoder", rates=DECODER_RATES),
    "deeplabv2-vgg16-largefov": Architecture(trunk="vgg16", head="largefov", rates=LARGE_FIELD_OF_VIEW),
    "deeplabv2-vgg16-aspp-s": Architecture(trunk="vgg16", head="aspp", rates=SMALL_RATES),
    "deeplabv2-vgg16-aspp-l": Architecture(trunk="vgg16", head="aspp", rates=LARGE_RATES),
    "deeplabv2-resnet50-largefov": Architecture(
        trunk="resnet50", head="largefov", rates=LARGE_FIELD_OF_VIEW, resnet=CAFFE_RESNET
    ),
    "deeplabv2-resnet50-aspp": Architecture(trunk="resnet50", head="aspp", rates=LARGE_RATES, resnet=CAFFE_RESNET),
    "deeplabv2-resnet101-largefov": Architecture(
        trunk="resnet101", head="largefov", rates=LARGE_FIELD_OF_VIEW, resnet=CAFFE_RESNET
    ),
    "deeplabv2-resnet101-aspp": Architecture(trunk="resnet101", head="aspp", rates=LARGE_RATES, resnet=CAFFE_RESNET),
    "deeplabv3-resnet50": Architecture(
        trunk="resnet50", head="deeplabv3", rates=DEEPLABV3_RATES, resnet=TORCHVISION_RESNET
    ),
    "deeplabv3-resnet101": Architecture(
        trunk="resnet101", head="deeplabv3", rates=DEEPLABV3_RATES, resnet=TORCHVISION_RESNET
    ),
}
