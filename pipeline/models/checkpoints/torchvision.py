"""Read torchvision's state dicts: ImageNet classifiers, whose backbones start a training, and DeepLabV3.

torchvision's ResNet differs from the authors' in behaviour, not in shapes: see `TORCHVISION_RESNET`.
"""

import re

from torch import Tensor

from pipeline.errors import WeightsError
from pipeline.models.architecture import DEEPLABV3_RATES, Architecture
from pipeline.models.backbones.resnet import TORCHVISION_RESNET
from pipeline.models.backbones.vgg import CONVOLUTIONS
from pipeline.models.checkpoints.resnet import resnet_name
from pipeline.models.checkpoints.state import BackboneWeights, Checkpoint, State, assembled, below
from pipeline.models.preprocessing import IMAGENET_PREPROCESSING

_LAYER = re.compile(r"layer(\d)\.(\d+)\.(.+)")
_UNITS = {
    "conv1": "reduce.conv",
    "bn1": "reduce.bn",
    "conv2": "conv3x3.conv",
    "bn2": "conv3x3.bn",
    "conv3": "increase.conv",
    "bn3": "increase.bn",
    "downsample.0": "shortcut.conv",
    "downsample.1": "shortcut.bn",
}
_HEAD = {
    "0.convs.0.0": "branches.0.conv",
    "0.convs.0.1": "branches.0.bn",
    "0.convs.1.0": "branches.1.conv",
    "0.convs.1.1": "branches.1.bn",
    "0.convs.2.0": "branches.2.conv",
    "0.convs.2.1": "branches.2.bn",
    "0.convs.3.0": "branches.3.conv",
    "0.convs.3.1": "branches.3.bn",
    "0.convs.4.1": "branches.4.project.conv",
    "0.convs.4.2": "branches.4.project.bn",
    "0.project.0": "project.conv",
    "0.project.1": "project.bn",
    "1": "refine.conv",
    "2": "refine.bn",
    "4": "classifier",
}


def matches_deeplabv3(state: State) -> bool:
    """Tell whether these keys are deeplabv3_resnet50's or deeplabv3_resnet101's."""
    return "backbone.conv1.weight" in state and "classifier.0.convs.0.0.weight" in state


def convert_deeplabv3(state: State) -> Checkpoint:
    """Return the model; the auxiliary classifier, which only training uses, is left out. Raises WeightsError."""
    backbone = resnet_names(below(state, "backbone."))
    head = {head_name(key): value for key, value in below(state, "classifier.").items()}
    if "classifier.weight" not in head:
        raise WeightsError("torchvision's DeepLabV3 without its last layer: classifier.4.weight is missing")
    architecture = Architecture(
        backbone=resnet_name(backbone), head="deeplabv3", rates=DEEPLABV3_RATES, options=TORCHVISION_RESNET
    )
    return assembled(
        name="torchvision deeplabv3",
        architecture=architecture,
        preprocessing=IMAGENET_PREPROCESSING,
        backbone=backbone,
        head=head,
    )


def matches_resnet(state: State) -> bool:
    """Tell whether these keys are an ImageNet ResNet's."""
    return "conv1.weight" in state and "layer1.0.conv1.weight" in state


def convert_resnet(state: State) -> BackboneWeights:
    """Rename the backbone's weights; the ImageNet classifier `fc` is left out. Raises WeightsError."""
    backbone = resnet_names({key: value for key, value in state.items() if not key.startswith("fc.")})
    return BackboneWeights(
        backbone=resnet_name(backbone),
        options=TORCHVISION_RESNET,
        preprocessing=IMAGENET_PREPROCESSING,
        state=backbone,
    )


def matches_vgg16(state: State) -> bool:
    """Tell whether these keys are an ImageNet VGG's without batch normalisation."""
    return "features.0.weight" in state and "features.2.weight" in state and "features.1.weight" not in state


def convert_vgg16(state: State) -> BackboneWeights:
    """Rename the convolutions' weights; the ImageNet classifier is left out."""
    names = _vgg_names()
    backbone = {}
    for key, value in below(state, "features.").items():
        index, _, kind = key.partition(".")
        backbone[f"{names.get(index, f'features.{index}')}.{kind}"] = value
    return BackboneWeights(backbone="vgg16", options=None, preprocessing=IMAGENET_PREPROCESSING, state=backbone)


def resnet_names(state: State) -> dict[str, Tensor]:
    """Rename the weights of a ResNet."""
    return {_resnet_name(key): value for key, value in state.items()}


def _resnet_name(key: str) -> str:
    if key.startswith(("conv1.", "bn1.")):
        return "stem." + key.replace("1.", ".", 1)
    layer = _LAYER.fullmatch(key)
    if layer is None:
        return key
    unit, _, kind = layer[3].rpartition(".")
    return f"layer{int(layer[1]) + 1}.{layer[2]}.{_UNITS.get(unit, unit)}.{kind}"


def head_name(key: str) -> str:
    """Rename a key of the head, without its prefix `classifier.`."""
    unit, _, kind = key.rpartition(".")
    return f"{_HEAD.get(unit, unit)}.{kind}"


def _vgg_names() -> dict[str, str]:
    """Name the convolutions by index within torchvision's `features`: a ReLU follows each, and a pool every stage."""
    names = {}
    index = 0
    for stage, count in enumerate(CONVOLUTIONS, start=1):
        for number in range(1, count + 1):
            names[str(index)] = f"conv{stage}_{number}"
            index += 2
        index += 1
    return names
