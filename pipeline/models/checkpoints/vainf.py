"""Read DeepLab v3+ on ResNet-50, ResNet-101 and MobileNetV2 of VainF/DeepLabV3Plus-Pytorch, of any number of classes.

Its files do not say their output stride; it is taken for 16, its default, and that of most of its published weights.
Its MobileNetV2 does not pad at the first convolution, so that its grid begins a pixel further inside. This project's
does: pictures seem to have that pixel around them, of the mean colour.
"""

from torch import Tensor

from pipeline.models.architecture import DEEPLABV3PLUS_RATES, Architecture
from pipeline.models.backbones import BackboneOptions
from pipeline.models.backbones.mobilenet_v2 import VAINF_MOBILENET_V2
from pipeline.models.backbones.resnet import TORCHVISION_RESNET
from pipeline.models.checkpoints.mobilenet_v2 import mobilenet_v2_names
from pipeline.models.checkpoints.resnet import resnet_name
from pipeline.models.checkpoints.state import Checkpoint, State, assembled, below
from pipeline.models.checkpoints.torchvision import resnet_names
from pipeline.models.preprocessing import IMAGENET_PREPROCESSING

_RESNET, _MOBILENET_V2 = "backbone.conv1.weight", "backbone.low_level_features.0.0.weight"
_PARTS = ("low_level_features.", "high_level_features.")
_HEAD = {
    "project.0": "reduce.conv",
    "project.1": "reduce.bn",
    **{f"aspp.convs.{i}.{j}": f"branches.{i}.{name}" for i in range(4) for j, name in enumerate(("conv", "bn"))},
    "aspp.convs.4.1": "branches.4.project.conv",
    "aspp.convs.4.2": "branches.4.project.bn",
    "aspp.project.0": "project.conv",
    "aspp.project.1": "project.bn",
    "classifier.0": "refine.conv",
    "classifier.1": "refine.bn",
    "classifier.3": "classifier",
}


def matches(state: State) -> bool:
    """Tell whether these keys are of DeepLab v3+ on a ResNet or on MobileNetV2."""
    has_head = {"classifier.project.0.weight", "classifier.aspp.convs.0.0.weight"} <= state.keys()
    return has_head and (_RESNET in state or _MOBILENET_V2 in state)


def convert(state: State) -> Checkpoint:
    """Return the model. Raises WeightsError."""
    name, options, backbone = _backbone(state)
    head = {_head_name(key): value for key, value in below(state, "classifier.").items()}
    architecture = Architecture(backbone=name, head="deeplabv3plus", rates=DEEPLABV3PLUS_RATES, options=options)
    return assembled(
        name="VainF deeplabv3plus",
        architecture=architecture,
        preprocessing=IMAGENET_PREPROCESSING,
        backbone=backbone,
        head=head,
    )


def _backbone(state: State) -> tuple[str, BackboneOptions, dict[str, Tensor]]:
    """Return the backbone's name, options and weights. Raises WeightsError."""
    backbone = below(state, "backbone.")
    if _RESNET in state:
        named = resnet_names(backbone)
        return resnet_name(named), TORCHVISION_RESNET, named
    features = {key: value for part in _PARTS for key, value in below(backbone, part).items()}
    return "mobilenet_v2", VAINF_MOBILENET_V2, mobilenet_v2_names(features)


def _head_name(key: str) -> str:
    unit, _, kind = key.rpartition(".")
    return f"{_HEAD.get(unit, unit)}.{kind}"
