"""Tell a ResNet's depth from the keys of its weights, in whichever layout they came."""

import re

from pipeline.errors import WeightsError
from pipeline.models.checkpoints.state import State

_LAYER4_BLOCK = re.compile(r"(?:backbone\.)?layer4\.(\d+)\.")
_DEPTHS = {6: "resnet50", 23: "resnet101"}


def resnet_name(state: State) -> str:
    """Tell ResNet-50 from ResNet-101 by keys that are under this project's names: the two differ in layer4 alone.

    Raises:
        WeightsError: neither ResNet-50 nor ResNet-101.
    """
    blocks = len({block[1] for key in state if (block := _LAYER4_BLOCK.match(key))})
    if blocks not in _DEPTHS:
        raise WeightsError(f"a ResNet with {blocks} blocks in layer4 is neither ResNet-50 (6) nor ResNet-101 (23)")
    return _DEPTHS[blocks]
