"""Read torchvision's MobileNetV2, an ImageNet classifier whose backbone starts a training, and name its layers."""

from collections.abc import Mapping

from torch import Tensor

from pipeline.models.backbones.mobilenet_v2 import RUNS, TORCHVISION_MOBILENET_V2
from pipeline.models.checkpoints.state import BackboneWeights, State, below
from pipeline.models.preprocessing import IMAGENET_PREPROCESSING

_BLOCKS = sum(run.blocks for run in RUNS)
_PLAIN = {"0.0": "depthwise.conv", "0.1": "depthwise.bn", "1": "project.conv", "2": "project.bn"}
_EXPANDED = {
    "0.0": "expand.conv",
    "0.1": "expand.bn",
    "1.0": "depthwise.conv",
    "1.1": "depthwise.bn",
    "2": "project.conv",
    "3": "project.bn",
}
_STEM = {"0.0": "stem.conv", "0.1": "stem.bn"}


def matches(state: State) -> bool:
    """Tell whether these keys are torchvision's."""
    return "features.0.0.weight" in state and f"features.{_BLOCKS}.conv.3.weight" in state


def convert(state: State) -> BackboneWeights:
    """Rename the backbone's weights; the last convolution and the ImageNet classifier are left out."""
    return BackboneWeights(
        backbone="mobilenet_v2",
        options=TORCHVISION_MOBILENET_V2,
        preprocessing=IMAGENET_PREPROCESSING,
        state=mobilenet_v2_names(below(state, "features.")),
    )


def mobilenet_v2_names(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename what torchvision numbers as INDEX.0.KIND of the stem and INDEX.conv.LAYER.KIND of the blocks."""
    last = f"{_BLOCKS + 1}."
    return {_name(key): value for key, value in features.items() if not key.startswith(last)}


def _name(key: str) -> str:
    unit, _, kind = key.rpartition(".")
    index, _, layer = unit.partition(".conv.")
    if not layer:
        return f"{_STEM.get(unit, unit)}.{kind}"
    names = _PLAIN if index == "1" else _EXPANDED
    return f"blocks.{int(index) - 1 if index.isdigit() else index}.{names.get(layer, layer)}.{kind}"
