"""Register the heads. A new one is a file here, that subclasses Head, and a line below."""

from pipeline.models.heads.aspp import ASPP
from pipeline.models.heads.decoder import Decoder
from pipeline.models.heads.deeplabv3 import DeepLabV3Head, DeepLabV3HeadAt16
from pipeline.models.heads.deeplabv3plus import DeepLabV3PlusHead, DeepLabV3PlusHeadFrom8
from pipeline.models.heads.deeplabv3plus_separable import SeparableDeepLabV3PlusHead, SeparableDeepLabV3PlusHeadFrom8
from pipeline.models.heads.head import Head
from pipeline.models.heads.largefov import LargeFOV
from pipeline.models.heads.lraspp import LRASPP
from pipeline.models.heads.pointwise import Pointwise

HEADS: dict[str, type[Head]] = {
    "aspp": ASPP,
    "largefov": LargeFOV,
    "pointwise": Pointwise,
    "deeplabv3": DeepLabV3Head,
    "deeplabv3_16": DeepLabV3HeadAt16,
    "deeplabv3plus": DeepLabV3PlusHead,
    "deeplabv3plus_8": DeepLabV3PlusHeadFrom8,
    "deeplabv3plus_separable": SeparableDeepLabV3PlusHead,
    "deeplabv3plus_separable_8": SeparableDeepLabV3PlusHeadFrom8,
    "lraspp": LRASPP,
    "decoder": Decoder,
}

__all__ = ["HEADS", "Head"]
