"""Read DeepLab v3+ on ResNet-50 and ResNet-101 of VainF/DeepLabV3Plus-Pytorch, with any number of classes.

Its files do not say their output stride; it is taken for 16, its default, and that of most of its published weights.
"""

from pipeline.models.architecture import DEEPLABV3PLUS_RATES, Architecture
from pipeline.models.backbones.resnet import TORCHVISION_RESNET
from pipeline.models.checkpoints.resnet import resnet_name
from pipeline.models.checkpoints.state import Checkpoint, State, below, card_of
from pipeline.models.checkpoints.torchvision import resnet_names
from pipeline.models.preprocessing import IMAGENET_PREPROCESSING

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
    """Tell whether these keys are of DeepLab v3+ on a ResNet."""
    return {"backbone.conv1.weight", "classifier.project.0.weight", "classifier.aspp.convs.0.0.weight"} <= state.keys()


def convert(state: State) -> Checkpoint:
    """Return the model. Raises WeightsError."""
    backbone = resnet_names(below(state, "backbone."))
    head = {_head_name(key): value for key, value in below(state, "classifier.").items()}
    architecture = Architecture(
        backbone=resnet_name(backbone), head="deeplabv3plus", rates=DEEPLABV3PLUS_RATES, options=TORCHVISION_RESNET
    )
    card = card_of(
        name=f"VainF deeplabv3plus {architecture.backbone}",
        architecture=architecture,
        classes=len(head["classifier.weight"]) if "classifier.weight" in head else 0,
        preprocessing=IMAGENET_PREPROCESSING,
    )
    named = {f"backbone.{key}": value for key, value in backbone.items()}
    return Checkpoint(card=card, state=named | {f"head.{key}": value for key, value in head.items()})


def _head_name(key: str) -> str:
    unit, _, kind = key.rpartition(".")
    return f"{_HEAD.get(unit, unit)}.{kind}"
