"""Read DeepLab v3+ on ResNet-50 and ResNet-101 of segmentation_models_pytorch, a state dict without a card.

A file does not say its output stride; it is taken for 16, smp's default. With a card beside it, which can say more,
the adapter runs it by smp itself.
"""

from pipeline.models.architecture import SMP_RATES, Architecture
from pipeline.models.backbones.resnet import SMP_RESNET
from pipeline.models.checkpoints.resnet import resnet_name
from pipeline.models.checkpoints.state import Checkpoint, State, assembled, below
from pipeline.models.checkpoints.torchvision import resnet_names
from pipeline.models.preprocessing import IMAGENET_PREPROCESSING

_POOLING = 4
_HEAD = {
    "decoder.aspp.0.convs.0.0": "branches.0.conv",
    "decoder.aspp.0.convs.0.1": "branches.0.bn",
    **{
        f"decoder.aspp.0.convs.{branch}.{layer}": f"branches.{branch}.{name}"
        for branch in range(1, _POOLING)
        for layer, name in (("0.0", "depthwise"), ("0.1", "pointwise.conv"), ("1", "pointwise.bn"))
    },
    "decoder.aspp.0.convs.4.1": "branches.4.project.conv",
    "decoder.aspp.0.convs.4.2": "branches.4.project.bn",
    "decoder.aspp.0.project.0": "project.conv",
    "decoder.aspp.0.project.1": "project.bn",
    "decoder.aspp.1.0": "smooth.depthwise",
    "decoder.aspp.1.1": "smooth.pointwise.conv",
    "decoder.aspp.2": "smooth.pointwise.bn",
    "decoder.block1.0": "reduce.conv",
    "decoder.block1.1": "reduce.bn",
    "decoder.block2.0.0": "refine.depthwise",
    "decoder.block2.0.1": "refine.pointwise.conv",
    "decoder.block2.1": "refine.pointwise.bn",
    "segmentation_head.0": "classifier",
}


def matches(state: State) -> bool:
    """Tell whether these keys are of DeepLab v3+ on a ResNet."""
    return {"encoder.conv1.weight", "decoder.block2.0.0.weight", "decoder.aspp.0.convs.0.0.weight"} <= state.keys()


def convert(state: State) -> Checkpoint:
    """Return the model. Raises WeightsError."""
    backbone = resnet_names(below(state, "encoder."))
    head = {_head_name(key): value for key, value in state.items() if not key.startswith("encoder.")}
    architecture = Architecture(
        backbone=resnet_name(backbone), head="deeplabv3plus_separable", rates=SMP_RATES, options=SMP_RESNET
    )
    return assembled(
        name="smp deeplabv3plus",
        architecture=architecture,
        preprocessing=IMAGENET_PREPROCESSING,
        backbone=backbone,
        head=head,
    )


def _head_name(key: str) -> str:
    unit, _, kind = key.rpartition(".")
    return f"{_HEAD.get(unit, unit)}.{kind}"
