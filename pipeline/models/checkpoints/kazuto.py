"""Read kazuto1011/deeplab-pytorch's state dicts: deeplabv2_resnet101_msc-*.pth and the single-head initialisation."""

import re

from pipeline.errors import WeightsError
from pipeline.models.architecture import LARGE_RATES, Architecture
from pipeline.models.backbones.resnet import CAFFE_RESNET
from pipeline.models.checkpoints.resnet import resnet_name
from pipeline.models.checkpoints.state import Checkpoint, State, below, card_of
from pipeline.models.preprocessing import CAFFE_PREPROCESSING
from pipeline.models.scales import MULTI_SCALE, SINGLE_SCALE

MSC_PREFIX = "base."  # of the wrapper that runs the network at three scales
_BLOCK = re.compile(r"(layer[2-5])\.block(\d+)\.(.+)")
_ASPP = re.compile(r"aspp\.c(\d+)\.(weight|bias)")


def matches(state: State) -> bool:
    """Tell whether these keys are of this layout."""
    return any(f"{prefix}layer1.conv1.conv.weight" in state for prefix in ("", MSC_PREFIX))


def convert(state: State) -> Checkpoint:
    """Return the model: MSRA's ResNet, BGR minus the mean, and three scales where the file has the MSC wrapper.

    Raises:
        WeightsError: no head, or a depth other than ResNet-50's and ResNet-101's.
    """
    multi_scale = any(key.startswith(MSC_PREFIX) for key in state)
    renamed = {_rename(key): value for key, value in (below(state, MSC_PREFIX) if multi_scale else state).items()}
    if "head.weight" in renamed:
        architecture = Architecture(backbone=resnet_name(renamed), head="pointwise", rates=(), options=CAFFE_RESNET)
        weight = renamed["head.weight"]
    elif "head.branches.0.weight" in renamed:
        architecture = Architecture(backbone=resnet_name(renamed), head="aspp", rates=LARGE_RATES, options=CAFFE_RESNET)
        weight = renamed["head.branches.0.weight"]
    else:
        raise WeightsError("kazuto's layout without its head: neither aspp.c0.weight nor fc.weight is there")
    card = card_of(
        name=f"kazuto {architecture.backbone}",
        architecture=architecture,
        classes=weight.shape[:1].numel(),
        preprocessing=CAFFE_PREPROCESSING,
        scales=MULTI_SCALE if multi_scale else SINGLE_SCALE,
    )
    return Checkpoint(card=card, state=renamed)


def _rename(key: str) -> str:
    if key.startswith("layer1.conv1."):
        return key.replace("layer1.conv1.", "backbone.stem.", 1)
    if block := _BLOCK.fullmatch(key):
        return f"backbone.{block[1]}.{int(block[2]) - 1}.{block[3]}"
    if branch := _ASPP.fullmatch(key):
        return f"head.branches.{branch[1]}.{branch[2]}"
    if key in ("fc.weight", "fc.bias"):
        return key.replace("fc.", "head.", 1)
    return key
