"""Say what network it is: backbone, head, atrous rates, and the options that its weights were trained with."""

from dataclasses import dataclass
from types import NoneType

from pipeline.errors import ConfigError
from pipeline.models.backbones import BACKBONES, Backbone, BackboneOptions, FeatureInfo
from pipeline.models.backbones.mobilenet_v2 import TORCHVISION_MOBILENET_V2
from pipeline.models.backbones.resnet import CAFFE_RESNET, TORCHVISION_RESNET
from pipeline.models.heads import HEADS, Head
from pipeline.models.plain import build, plain_object
from pipeline.models.stored_names import architecture_fields

MAX_RATE = 1024


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Name a backbone and a head on it.

    backbone: a name in BACKBONES.
    head: a name in HEADS.
    rates: atrous rates, as many as the head takes.
    options: what the backbone is built with, of its own `options_type`; None for one without.
    """

    backbone: str
    head: str
    rates: tuple[int, ...]
    options: BackboneOptions | None = None

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ConfigError(f"backbone is {self.backbone!r}; it must be one of {', '.join(BACKBONES)}")
        if self.head not in HEADS:
            raise ConfigError(f"head is {self.head!r}; it must be one of {', '.join(HEADS)}")
        if not all(1 <= rate <= MAX_RATE for rate in self.rates):
            raise ConfigError(f"atrous rates are {self.rates}; each must be from 1 to {MAX_RATE}")
        if len(self.rates) not in self.head_type.rate_counts:
            raise ConfigError(f"a head {self.head!r} cannot have the atrous rates {self.rates}")
        options_type = self.backbone_type.options_type
        if not isinstance(self.options, options_type):
            accepted = "no options" if options_type is NoneType else f"a {options_type.__name__}"
            raise ConfigError(f"options are {self.options!r}; the backbone {self.backbone!r} takes {accepted}")
        try:
            features = self.features
        except ConfigError as error:
            raise ConfigError(f"the head {self.head!r} cannot be on the backbone {self.backbone!r}: {error}") from error
        if features.fc_channels and not self.head_type.repeats_fc:
            raise ConfigError(
                f"the head {self.head!r} cannot be on the backbone {self.backbone!r}: it has no place for fc6 and fc7"
            )

    @property
    def backbone_type(self) -> type[Backbone]:
        """Return the registered class."""
        return BACKBONES[self.backbone]

    @property
    def head_type(self) -> type[Head]:
        """Return the registered class."""
        return HEADS[self.head]

    @property
    def features(self) -> FeatureInfo:
        """Return what the backbone gives to the head."""
        return self.backbone_type.feature_info(self.head_type.request)

    @property
    def stride(self) -> int:
        """Return the output stride, in pixels: of the logits' grid."""
        return self.head_type.output_stride

    @property
    def step(self) -> int:
        """Return the step of the backbone's sizes, in pixels: it takes sides of step * m + 1."""
        return self.features.step

    def build_backbone(self) -> Backbone:
        """Build the backbone with random weights."""
        return self.backbone_type(self.head_type.request, self.options)

    def build_head(self, classes: int) -> Head:
        """Build the head with the authors' initialisation, N(0, 0.01)."""
        return self.head_type(self.features, classes, self.rates)

    @classmethod
    def from_plain(cls, plain: object) -> "Architecture":
        """Build from plain JSON types under the stored names. Raises ConfigError for what is no architecture."""
        fields = architecture_fields(plain_object(plain, "architecture"))
        backbone, options = fields.get("backbone"), fields.get("options")
        kind = BACKBONES[backbone].options_type if backbone in tuple(BACKBONES) else NoneType
        if kind is not NoneType and options is not None:
            fields["options"] = build(kind, options, "architecture.resnet")
        return build(cls, fields, "architecture")


LARGE_RATES = (6, 12, 18, 24)
SMALL_RATES = (2, 4, 8, 12)
LARGE_FIELD_OF_VIEW = (12,)
DEEPLABV3_RATES = (12, 24, 36)
DEEPLABV3PLUS_RATES = (6, 12, 18)  # at stride 16
SMP_RATES = (12, 24, 36)  # at stride 16 and 8
DECODER_RATES = (1, 3, 6, 9)  # at stride 16: the reach of 2, 6, 12 and 18 at stride 8

ARCHITECTURES = {
    "deeplabv2-efficientnet-lite0-aspp": Architecture(backbone="efficientnet_lite0", head="aspp", rates=LARGE_RATES),
    "deeplab-efficientnet-lite0-decoder": Architecture(
        backbone="efficientnet_lite0", head="decoder", rates=DECODER_RATES
    ),
    "deeplab-efficientnet-lite2-decoder": Architecture(
        backbone="efficientnet_lite2", head="decoder", rates=DECODER_RATES
    ),
    "deeplabv2-vgg16-largefov": Architecture(backbone="vgg16", head="largefov", rates=LARGE_FIELD_OF_VIEW),
    "deeplabv2-vgg16-aspp-s": Architecture(backbone="vgg16", head="aspp", rates=SMALL_RATES),
    "deeplabv2-vgg16-aspp-l": Architecture(backbone="vgg16", head="aspp", rates=LARGE_RATES),
    "deeplabv2-resnet50-largefov": Architecture(
        backbone="resnet50", head="largefov", rates=LARGE_FIELD_OF_VIEW, options=CAFFE_RESNET
    ),
    "deeplabv2-resnet50-aspp": Architecture(backbone="resnet50", head="aspp", rates=LARGE_RATES, options=CAFFE_RESNET),
    "deeplabv2-resnet101-largefov": Architecture(
        backbone="resnet101", head="largefov", rates=LARGE_FIELD_OF_VIEW, options=CAFFE_RESNET
    ),
    "deeplabv2-resnet101-aspp": Architecture(
        backbone="resnet101", head="aspp", rates=LARGE_RATES, options=CAFFE_RESNET
    ),
    "deeplabv3-resnet50": Architecture(
        backbone="resnet50", head="deeplabv3", rates=DEEPLABV3_RATES, options=TORCHVISION_RESNET
    ),
    "deeplabv3-mobilenet-v2": Architecture(
        backbone="mobilenet_v2", head="deeplabv3", rates=DEEPLABV3_RATES, options=TORCHVISION_MOBILENET_V2
    ),
    "deeplabv3plus-mobilenet-v2": Architecture(
        backbone="mobilenet_v2", head="deeplabv3plus", rates=DEEPLABV3PLUS_RATES, options=TORCHVISION_MOBILENET_V2
    ),
    "deeplabv3plus-mobilenet-v2-8": Architecture(
        backbone="mobilenet_v2", head="deeplabv3plus_8", rates=DEEPLABV3_RATES, options=TORCHVISION_MOBILENET_V2
    ),
    "deeplabv3-mobilenet-v3-large": Architecture(
        backbone="mobilenet_v3_large", head="deeplabv3_16", rates=DEEPLABV3_RATES
    ),
    "deeplabv3plus-mobilenet-v3-large": Architecture(
        backbone="mobilenet_v3_large", head="deeplabv3plus", rates=DEEPLABV3PLUS_RATES
    ),
    "deeplabv3plus-resnet50": Architecture(
        backbone="resnet50", head="deeplabv3plus", rates=DEEPLABV3PLUS_RATES, options=TORCHVISION_RESNET
    ),
    "deeplabv3plus-resnet101": Architecture(
        backbone="resnet101", head="deeplabv3plus", rates=DEEPLABV3PLUS_RATES, options=TORCHVISION_RESNET
    ),
    "deeplabv3plus-resnet50-8": Architecture(
        backbone="resnet50", head="deeplabv3plus_8", rates=DEEPLABV3_RATES, options=TORCHVISION_RESNET
    ),
    "deeplabv3plus-resnet101-8": Architecture(
        backbone="resnet101", head="deeplabv3plus_8", rates=DEEPLABV3_RATES, options=TORCHVISION_RESNET
    ),
    "lraspp-mobilenet-v3-large": Architecture(backbone="mobilenet_v3_large", head="lraspp", rates=()),
    "deeplabv3-resnet101": Architecture(
        backbone="resnet101", head="deeplabv3", rates=DEEPLABV3_RATES, options=TORCHVISION_RESNET
    ),
}

SHORT_NAMES = {
    "light": "deeplab-efficientnet-lite0-decoder",
    "light-aspp": "deeplabv2-efficientnet-lite0-aspp",
    "vgg16-largefov": "deeplabv2-vgg16-largefov",
    "vgg16-aspp": "deeplabv2-vgg16-aspp-l",
    "resnet50-aspp": "deeplabv2-resnet50-aspp",
    "resnet101-largefov": "deeplabv2-resnet101-largefov",
    "resnet101-aspp": "deeplabv2-resnet101-aspp",
}


def full_name(name: str) -> str:
    """Return the name in ARCHITECTURES that a short or a full name means. Raises ConfigError where there is none."""
    full = SHORT_NAMES.get(name, name)
    if full not in ARCHITECTURES:
        raise ConfigError(f"no model is called {name!r}; known: {', '.join([*SHORT_NAMES, *ARCHITECTURES])}")
    return full
