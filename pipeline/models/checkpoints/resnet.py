"""What the layouts of ResNet weights have in common: telling the depth from the keys."""

import re

from pipeline.errors import WeightsError
from pipeline.models.architecture import Trunk
from pipeline.models.checkpoints.state import State

_LAYER4_BLOCK = re.compile(r"(?:trunk\.)?layer4\.(\d+)\.")
_DEPTHS: dict[int, Trunk] = {6: "resnet50", 23: "resnet101"}


def trunk_name(state: State) -> Trunk:
    """Which ResNet these keys, already under this project's names, belong to: the depths differ in layer4 alone.

    Raises:
        WeightsError: neither ResNet-50 nor ResNet-101.
    """
    blocks = len({found[1] for key in state if (found := _LAYER4_BLOCK.match(key))})
    if blocks not in _DEPTHS:
        raise WeightsError(f"a ResNet with {blocks} blocks in layer4 is neither ResNet-50 (6) nor ResNet-101 (23)")
    return _DEPTHS[blocks]
