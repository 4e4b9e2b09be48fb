"""Read torchvision's LR-ASPP and DeepLabV3 on MobileNetV3-Large, with any number of classes."""

from torch import Tensor

from pipeline.models.architecture import DEEPLABV3_RATES, Architecture
from pipeline.models.backbones.mobilenet_v3 import BLOCKS
from pipeline.models.checkpoints.state import Checkpoint, State, assembled, below
from pipeline.models.checkpoints.torchvision import head_name
from pipeline.models.preprocessing import IMAGENET_PREPROCESSING

_LRASPP = {
    "cbr.0": "project.conv",
    "cbr.1": "project.bn",
    "scale.1": "scale",
    "low_classifier": "fine_classifier",
    "high_classifier": "coarse_classifier",
}
_UNITS = {"0": "conv", "1": "bn"}
_LAST = str(len(BLOCKS) + 1)


def matches(state: State) -> bool:
    """Tell whether these keys are of one of both heads on MobileNetV3-Large."""
    heads = ("classifier.low_classifier.weight", "classifier.0.convs.0.0.weight")
    return f"backbone.{_LAST}.0.weight" in state and any(key in state for key in heads)


def convert(state: State) -> Checkpoint:
    """Return the model; the auxiliary classifier, which only training uses, is left out. Raises WeightsError."""
    classifier = below(state, "classifier.")
    light = "low_classifier.weight" in classifier
    head = {(_lraspp_name if light else head_name)(key): value for key, value in classifier.items()}
    last = "fine_classifier.weight" if light else "classifier.weight"
    architecture = Architecture(
        backbone="mobilenet_v3_large",
        head="lraspp" if light else "deeplabv3_16",
        rates=() if light else DEEPLABV3_RATES,
    )
    backbone: dict[str, Tensor] = {_backbone_name(key): value for key, value in below(state, "backbone.").items()}
    return assembled(
        name=f"torchvision {architecture.head}",
        architecture=architecture,
        preprocessing=IMAGENET_PREPROCESSING,
        backbone=backbone,
        head=head,
        classifier=last,
    )


def _lraspp_name(key: str) -> str:
    unit, _, kind = key.rpartition(".")
    return f"{_LRASPP.get(unit, unit)}.{kind}"


def _backbone_name(key: str) -> str:
    """Rename INDEX.0.weight of the stem and the last convolution, and INDEX.block.LAYER.... of the blocks."""
    index, _, rest = key.partition(".")
    if index in ("0", _LAST):
        return f"{'stem' if index == '0' else 'last'}.{_unit(rest)}"
    number = int(index) - 1
    layer, _, rest = rest.removeprefix("block.").partition(".")
    layers = _layers(number)
    name = layers[int(layer)] if layer.isdigit() and int(layer) < len(layers) else layer
    if name == "excitation":
        return f"blocks.{number}.excitation.{rest.replace('fc1', 'squeeze').replace('fc2', 'excite')}"
    return f"blocks.{number}.{name}.{_unit(rest)}"


def _layers(number: int) -> list[str]:
    """Name the layers of a block in torchvision's order."""
    block = BLOCKS[number] if number < len(BLOCKS) else BLOCKS[-1]
    inputs = BLOCKS[number - 1].channels if 0 < number < len(BLOCKS) else 16
    expand = ["expand"] if block.hidden != inputs else []
    return [*expand, "depthwise", *(["excitation"] if block.excites else []), "project"]


def _unit(rest: str) -> str:
    number, _, kind = rest.partition(".")
    return f"{_UNITS.get(number, number)}.{kind}"
