"""Random weights in the published layouts, batch statistics included, cheap to draw."""

import torch
from torch import Tensor

from tests.helpers.reference_networks import BLOCKS

State = dict[str, Tensor]
BRANCH_GAIN = 0.2


class Drawer:
    """Draws named weights of a given shape from one seed."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.state: State = {}

    def conv(self, key: str, out: int, inputs: int, kernel: int, *, bias: bool = False) -> None:
        noise = torch.randn(out, inputs, kernel, kernel, generator=self.generator)
        self.state[f"{key}.weight"] = noise * (2 / (inputs * kernel**2)) ** 0.5
        if bias:
            self.state[f"{key}.bias"] = 0.1 * torch.randn(out, generator=self.generator)

    def norm(self, key: str, channels: int, gain: float = 1.0) -> None:
        """Batch normalisation; a small `gain` where residual branches end keeps a deep network's logits small."""
        self.state[f"{key}.weight"] = gain * (0.5 + torch.rand(channels, generator=self.generator))
        self.state[f"{key}.running_var"] = 0.5 + torch.rand(channels, generator=self.generator)
        for name in ("bias", "running_mean"):
            self.state[f"{key}.{name}"] = 0.2 * torch.randn(channels, generator=self.generator)
        self.state[f"{key}.num_batches_tracked"] = torch.tensor(7)


def kazuto_state(depth: str = "resnet101", classes: int = 21, *, single_head: bool = False) -> State:
    """kazuto's DeepLab v2, or its single-head initialisation, without the prefix of the MSC wrapper."""
    draw = Drawer()

    def unit(key: str, out: int, inputs: int, kernel: int, gain: float = 1.0) -> None:
        draw.conv(f"{key}.conv", out, inputs, kernel)
        draw.norm(f"{key}.bn", out, gain)

    unit("layer1.conv1", 64, 3, 7)
    inputs = 64
    for layer, count in enumerate(BLOCKS[depth], start=2):
        out = 64 * 2**layer
        for block in range(1, count + 1):
            key = f"layer{layer}.block{block}"
            unit(f"{key}.reduce", out // 4, inputs, 1)
            unit(f"{key}.conv3x3", out // 4, out // 4, 3)
            unit(f"{key}.increase", out, out // 4, 1, BRANCH_GAIN)
            if block == 1:
                unit(f"{key}.shortcut", out, inputs, 1)
            inputs = out
    if single_head:
        draw.conv("fc", classes, inputs, 1, bias=True)
    else:
        for i in range(4):
            draw.conv(f"aspp.c{i}", classes, inputs, 3, bias=True)
    return draw.state


def torchvision_resnet_state(depth: str) -> State:
    """torchvision's ResNet, its ImageNet classifier included."""
    draw = Drawer()
    draw.conv("conv1", 64, 3, 7)
    draw.norm("bn1", 64)
    inputs = 64
    for layer, count in enumerate(BLOCKS[depth], start=1):
        out = 128 * 2**layer
        for block in range(count):
            key = f"layer{layer}.{block}"
            for i, (channels, source, kernel) in enumerate(
                ((out // 4, inputs, 1), (out // 4, out // 4, 3), (out, out // 4, 1)), start=1
            ):
                draw.conv(f"{key}.conv{i}", channels, source, kernel)
                draw.norm(f"{key}.bn{i}", channels, BRANCH_GAIN if i == 3 else 1.0)
            if block == 0:
                draw.conv(f"{key}.downsample.0", out, inputs, 1)
                draw.norm(f"{key}.downsample.1", out)
            inputs = out
    return draw.state | {"fc.weight": torch.zeros(1000, inputs), "fc.bias": torch.zeros(1000)}


def torchvision_deeplabv3_state(depth: str, classes: int = 21) -> State:
    """torchvision's deeplabv3_resnet, its auxiliary classifier included."""
    backbone = {f"backbone.{k}": v for k, v in torchvision_resnet_state(depth).items() if not k.startswith("fc.")}
    draw = Drawer(1)
    for i, kernel in enumerate((1, 3, 3, 3)):
        draw.conv(f"classifier.0.convs.{i}.0", 256, 2048, kernel)
        draw.norm(f"classifier.0.convs.{i}.1", 256)
    draw.conv("classifier.0.convs.4.1", 256, 2048, 1)
    draw.norm("classifier.0.convs.4.2", 256)
    draw.conv("classifier.0.project.0", 256, 5 * 256, 1)
    draw.norm("classifier.0.project.1", 256)
    draw.conv("classifier.1", 256, 256, 3)
    draw.norm("classifier.2", 256)
    draw.conv("classifier.4", classes, 256, 1, bias=True)
    draw.conv("aux_classifier.0", 256, 1024, 3)
    draw.norm("aux_classifier.1", 256)
    draw.conv("aux_classifier.4", classes, 256, 1, bias=True)
    return backbone | draw.state


def vgg_state(suffixes: tuple[str, ...], classes: int = 21) -> State:
    """VGG-16 DeepLab under Caffe's layer names: one branch for each suffix."""
    draw = Drawer()
    inputs = 3
    for stage, (out, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for i in range(1, count + 1):
            draw.conv(f"conv{stage}_{i}", out, inputs, 3, bias=True)
            inputs = out
    for suffix in suffixes:
        draw.conv(f"fc6{suffix}", 1024, 512, 3, bias=True)
        draw.conv(f"fc7{suffix}", 1024, 1024, 1, bias=True)
        draw.conv(f"fc8_voc12{suffix}", classes, 1024, 1, bias=True)
    return draw.state
