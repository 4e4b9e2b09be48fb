"""Independent networks that read weights in their published layouts, for parity tests.

Written from the descriptions of kazuto1011/deeplab-pytorch, torchvision and the authors' prototxts as plain functions
of a state dict, sharing no code with the project.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Weights = Mapping[str, Tensor]

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def norm(w: Weights, key: str, x: Tensor) -> Tensor:
    statistics = (w[f"{key}.running_mean"], w[f"{key}.running_var"])
    return F.batch_norm(x, *statistics, w[f"{key}.weight"], w[f"{key}.bias"], training=False, eps=1e-5)


def kazuto_unit(w: Weights, key: str, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    kernel = w[f"{key}.conv.weight"]
    padding = dilation if kernel.shape[-1] == 3 else kernel.shape[-1] // 2
    return norm(w, f"{key}.bn", F.conv2d(x, kernel, None, stride, padding, dilation))


def kazuto_backbone(w: Weights, x: Tensor, blocks: Sequence[int]) -> Tensor:
    """MSRA's ResNet: stride on the first 1x1, a pool that rounds up, one dilation for a whole layer."""
    x = F.max_pool2d(F.relu(kazuto_unit(w, "layer1.conv1", x, stride=2)), 3, 2, 1, ceil_mode=True)
    for layer, count, stride, dilation in zip((2, 3, 4, 5), blocks, (1, 2, 1, 1), (1, 1, 2, 4), strict=True):
        for block in range(1, count + 1):
            key, step = f"layer{layer}.block{block}", stride if block == 1 else 1
            y = F.relu(kazuto_unit(w, f"{key}.reduce", x, step))
            y = F.relu(kazuto_unit(w, f"{key}.conv3x3", y, 1, dilation))
            y = kazuto_unit(w, f"{key}.increase", y)
            x = F.relu(y + (kazuto_unit(w, f"{key}.shortcut", x, step) if block == 1 else x))
    return x


def kazuto_logits(w: Weights, x: Tensor, blocks: Sequence[int] = BLOCKS["resnet101"]) -> Tensor:
    """kazuto's DeepLab v2 at one scale, or its single-head initialisation; `w` without the MSC wrapper's prefix."""
    x = kazuto_backbone(w, x, blocks)
    if "fc.weight" in w:
        return F.conv2d(x, w["fc.weight"], w["fc.bias"])
    return torch.stack(
        [
            F.conv2d(x, w[f"aspp.c{i}.weight"], w[f"aspp.c{i}.bias"], padding=rate, dilation=rate)
            for i, rate in enumerate((6, 12, 18, 24))
        ]
    ).sum(0)


def torchvision_backbone(w: Weights, x: Tensor, blocks: Sequence[int]) -> Tensor:
    """ResNet v1.5 with replace_stride_with_dilation=[False, True, True]."""
    x = F.max_pool2d(F.relu(norm(w, "bn1", F.conv2d(x, w["conv1.weight"], None, 2, 3))), 3, 2, 1)
    dilation = 1
    for layer, count in enumerate(blocks, start=1):
        for block in range(count):
            key = f"layer{layer}.{block}"
            stride = 2 if layer == 2 and block == 0 else 1
            y = F.relu(norm(w, f"{key}.bn1", F.conv2d(x, w[f"{key}.conv1.weight"])))
            y = F.conv2d(y, w[f"{key}.conv2.weight"], None, stride, dilation, dilation)
            y = F.relu(norm(w, f"{key}.bn2", y))
            y = norm(w, f"{key}.bn3", F.conv2d(y, w[f"{key}.conv3.weight"]))
            if block == 0:
                x = norm(w, f"{key}.downsample.1", F.conv2d(x, w[f"{key}.downsample.0.weight"], None, stride))
                # a stride that was replaced dilates what follows its own block
                dilation *= 2 if layer >= 3 else 1
            x = F.relu(x + y)
    return x


def torchvision_deeplabv3(w: Weights, x: Tensor, blocks: Sequence[int]) -> Tensor:
    """torchvision's deeplabv3_resnet, before it resizes to the input."""
    backbone = {key.removeprefix("backbone."): value for key, value in w.items() if key.startswith("backbone.")}
    x = torchvision_backbone(backbone, x, blocks)
    head = "classifier.0.convs"
    maps = [F.relu(norm(w, f"{head}.0.1", F.conv2d(x, w[f"{head}.0.0.weight"])))]
    for i, rate in enumerate((12, 24, 36), start=1):
        y = F.conv2d(x, w[f"{head}.{i}.0.weight"], padding=rate, dilation=rate)
        maps.append(F.relu(norm(w, f"{head}.{i}.1", y)))
    pooled = F.relu(norm(w, f"{head}.4.2", F.conv2d(F.adaptive_avg_pool2d(x, 1), w[f"{head}.4.1.weight"])))
    maps.append(F.interpolate(pooled, x.shape[-2:], mode="bilinear", align_corners=False))
    y = F.relu(norm(w, "classifier.0.project.1", F.conv2d(torch.cat(maps, 1), w["classifier.0.project.0.weight"])))
    y = F.relu(norm(w, "classifier.2", F.conv2d(y, w["classifier.1.weight"], padding=1)))
    return F.conv2d(y, w["classifier.4.weight"], w["classifier.4.bias"])


def torchvision_mobilenet_v2(w: Weights, x: Tensor) -> Tensor:
    """MobileNetV2 up to its 17th block; from the 8th on the grid stays at stride 8, and dilation takes its place."""

    def filtered(key: str, x: Tensor, stride: int, dilation: int) -> Tensor:
        kernel = w[f"{key}.0.weight"]
        y = F.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2 * dilation, dilation, x.shape[1] // kernel.shape[1])
        return F.relu6(norm(w, f"{key}.1", y))

    x = F.relu6(norm(w, "features.0.1", F.conv2d(x, w["features.0.0.weight"], None, 2, 1)))
    for index in range(1, 18):
        key, y = f"features.{index}.conv", x
        layers = 1 if index == 1 else 2
        for layer in range(layers):
            is_last = layer == layers - 1
            stride = 2 if is_last and index in (2, 4) else 1
            dilation = (1 if index < 8 else 2 if index < 15 else 4) if is_last else 1
            y = filtered(f"{key}.{layer}", y, stride, dilation)
        y = norm(w, f"{key}.{layers + 1}", F.conv2d(y, w[f"{key}.{layers}.weight"]))
        x = x + y if x.shape == y.shape else y
    return x


def vgg_backbone(w: Weights, x: Tensor) -> Tensor:
    """VGG-16 of the authors' prototxt, by Caffe's layer names."""
    for stage, count in enumerate((2, 2, 3, 3, 3), start=1):
        dilation = 2 if stage == 5 else 1
        for i in range(1, count + 1):
            key = f"conv{stage}_{i}"
            x = F.relu(F.conv2d(x, w[f"{key}.weight"], w[f"{key}.bias"], padding=dilation, dilation=dilation))
        x = F.max_pool2d(x, 3, 2 if stage <= 3 else 1, 1, ceil_mode=True)
    return x


def vgg_branch(w: Weights, x: Tensor, suffix: str, rate: int, classifier: str = "fc8_voc12") -> Tensor:
    """fc6 - fc7 - fc8 of one branch; `suffix` is _1 to _4 in ASPP and empty in LargeFOV."""
    x = F.relu(F.conv2d(x, w[f"fc6{suffix}.weight"], w[f"fc6{suffix}.bias"], padding=rate, dilation=rate))
    x = F.relu(F.conv2d(x, w[f"fc7{suffix}.weight"], w[f"fc7{suffix}.bias"]))
    return F.conv2d(x, w[f"{classifier}{suffix}.weight"], w[f"{classifier}{suffix}.bias"])


def vgg_largefov(w: Weights, x: Tensor) -> Tensor:
    return vgg_branch(w, F.avg_pool2d(vgg_backbone(w, x), 3, 1, 1), "", 12)


def vgg_aspp(w: Weights, x: Tensor, rates: Sequence[int]) -> Tensor:
    x = vgg_backbone(w, x)
    return torch.stack([vgg_branch(w, x, f"_{i}", rate) for i, rate in enumerate(rates, start=1)]).sum(0)
