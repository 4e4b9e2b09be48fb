"""Register the backbones. A new one is a file here, that subclasses Backbone, and a line below."""

from pipeline.models.backbones.backbone import Backbone, BackboneOptions, FeatureInfo, FeatureRequest
from pipeline.models.backbones.efficientnet_lite import EfficientNetLite0, EfficientNetLite2
from pipeline.models.backbones.mobilenet_v2 import MobileNetV2
from pipeline.models.backbones.mobilenet_v3 import MobileNetV3Large
from pipeline.models.backbones.resnet import ResNet50, ResNet101
from pipeline.models.backbones.vgg import VGG16

BACKBONES: dict[str, type[Backbone]] = {
    "efficientnet_lite0": EfficientNetLite0,
    "efficientnet_lite2": EfficientNetLite2,
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v3_large": MobileNetV3Large,
    "vgg16": VGG16,
    "resnet50": ResNet50,
    "resnet101": ResNet101,
}

__all__ = ["BACKBONES", "Backbone", "BackboneOptions", "FeatureInfo", "FeatureRequest"]
