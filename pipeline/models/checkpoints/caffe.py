"""Read the authors' .caffemodel files: DeepLab v2 on ResNet-101 and VGG-16, the COCO initialisation, bare backbones.

Layer names are those of the released prototxts. BatchNorm and Scale are two layers in Caffe: the first holds
[mean, variance, factor], each statistic being blob / factor, the second [gamma, beta].
"""

import re

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import WeightsError
from pipeline.models.architecture import LARGE_FIELD_OF_VIEW, LARGE_RATES, Architecture
from pipeline.models.backbones.resnet import CAFFE_RESNET
from pipeline.models.checkpoints.caffe_wire import Layer, read_layers
from pipeline.models.checkpoints.resnet import resnet_name
from pipeline.models.checkpoints.state import BackboneWeights, Checkpoint, card_of, named
from pipeline.models.preprocessing import CAFFE_PREPROCESSING
from pipeline.models.scales import MULTI_SCALE, SINGLE_SCALE

Layers = dict[str, Layer]

# the net at half and three-quarter scale: the same weights, stored again
_SHARED = ("res05", "res075")
_BLOCK = re.compile(r"(res|bn|scale)([2-5])(a|b|c|b\d{1,2})_branch(1|2a|2b|2c)")
_STEM = {"conv1": "conv", "bn_conv1": "bn", "scale_conv1": "scale"}
_KINDS = {"res": "conv", "bn": "bn", "scale": "scale"}
_BLOCKS = {"a": 0, "b": 1, "c": 2}
_UNITS = {"1": "shortcut", "2a": "reduce", "2b": "conv3x3", "2c": "increase"}
_RESNET_HEAD = re.compile(r"fc1_\w+?(?:_c(\d))?")
_VGG_CONV = re.compile(r"conv[1-5]_[1-3]")
_VGG_HEAD = re.compile(r"(?:(fc[67])|(fc8)_\w+?)(?:_([1-4]))?")


def convert(data: bytes) -> Checkpoint | BackboneWeights:
    """Return the model, or the backbone where there is no head that segments, of a .caffemodel file.

    Raises:
        WeightsError: damaged, or of no known network.
    """
    every = read_layers(data)
    layers = {layer.name: layer for layer in every if not any(mark in layer.name for mark in _SHARED)}
    scales = MULTI_SCALE if len(layers) < len(every) else SINGLE_SCALE
    if "conv1" in layers:
        return _resnet(layers, scales)
    if "conv1_1" in layers:
        return _vgg(layers, scales)
    raise WeightsError(f"no known network has these Caffe layers: {named(sorted(layers)) or 'none with weights'}")


def _resnet(layers: Layers, scales: tuple[float, ...]) -> Checkpoint | BackboneWeights:
    backbone: dict[str, Tensor] = {}
    branches: dict[int, Layer] = {}
    for layer_name, layer in layers.items():
        if branch := _RESNET_HEAD.fullmatch(layer_name):
            branches[int(branch[1] or 0)] = layer
        elif layer_name != "fc1000":  # ImageNet's classifier
            backbone |= _resnet_unit(layer)
    name = resnet_name(backbone)
    if not branches:
        return BackboneWeights(backbone=name, options=CAFFE_RESNET, preprocessing=CAFFE_PREPROCESSING, state=backbone)
    head, rates = _head(branches)
    state = {f"backbone.{key}": value for key, value in backbone.items()}
    for index, layer in branches.items():
        state |= _convolution("head" if head == "pointwise" else f"head.branches.{index}", layer)
    card = card_of(
        name=f"caffe {name}",
        architecture=Architecture(backbone=name, head=head, rates=rates, options=CAFFE_RESNET),
        classes=len(branches[min(branches)].blobs[0]),
        preprocessing=CAFFE_PREPROCESSING,
        scales=scales,
    )
    return Checkpoint(card=card, state=state)


def _resnet_unit(layer: Layer) -> dict[str, Tensor]:
    """Rename one convolution, BatchNorm or Scale layer of the backbone."""
    if layer.name in _STEM:
        return _unit("stem", _STEM[layer.name], layer)
    parts = _BLOCK.fullmatch(layer.name)
    if parts is None:
        raise WeightsError(f"a ResNet has no layer {layer.name!r}")
    block = _BLOCKS[parts[3]] if parts[3] in _BLOCKS else int(parts[3][1:])
    return _unit(f"layer{parts[2]}.{block}.{_UNITS[parts[4]]}", _KINDS[parts[1]], layer)


def _unit(unit: str, kind: str, layer: Layer) -> dict[str, Tensor]:
    if kind == "conv":
        (weight,) = _blobs(layer, 1)
        return {f"{unit}.conv.weight": torch.from_numpy(weight)}
    if kind == "scale":
        gamma, beta = _blobs(layer, 2)
        return {f"{unit}.bn.weight": _vector(gamma), f"{unit}.bn.bias": _vector(beta)}
    mean, variance, factor = _blobs(layer, 3)
    if factor.size != 1:
        raise WeightsError(f"BatchNorm layer {layer.name!r} has {factor.size} scale factors; expected 1")
    # Caffe's own rule: a factor of 0 means that nothing was gathered
    scale = 1 / float(factor.flat[0]) if factor.flat[0] else 0.0
    return {f"{unit}.bn.running_mean": _vector(mean) * scale, f"{unit}.bn.running_var": _vector(variance) * scale}


def _vgg(layers: Layers, scales: tuple[float, ...]) -> Checkpoint | BackboneWeights:
    backbone: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    branches: dict[int, Layer] = {}
    classes = 0
    for name, layer in layers.items():
        if _VGG_CONV.fullmatch(name):
            backbone |= _convolution(name, layer)
        elif parts := _VGG_HEAD.fullmatch(name):
            index = int(parts[3] or 1) - 1
            part = parts[1] or parts[2]
            head |= _convolution(f"head.branches.{index}.{part}", layer)
            if part == "fc6":
                branches[index] = layer
            elif part == "fc8":
                classes = len(layer.blobs[0])
        elif name != "fc8":  # ImageNet's classifier
            raise WeightsError(f"VGG-16 has no layer {name!r}")
    if not classes:
        return BackboneWeights(backbone="vgg16", options=None, preprocessing=CAFFE_PREPROCESSING, state=backbone)
    head_name, rates = _head(branches)
    card = card_of(
        name="caffe vgg16",
        architecture=Architecture(backbone="vgg16", head=head_name, rates=rates),
        classes=classes,
        preprocessing=CAFFE_PREPROCESSING,
        scales=scales,
    )
    return Checkpoint(card=card, state={f"backbone.{key}": value for key, value in backbone.items()} | head)


def _head(branches: dict[int, Layer]) -> tuple[str, tuple[int, ...]]:
    """Return the head's name and its atrous rates: as the file states them, else those of the released networks."""
    if sorted(branches) == [0]:
        weight, _ = _blobs(branches[0], 2)
        if weight.shape[-1] == 1:
            return "pointwise", ()
        return "largefov", (branches[0].dilation or LARGE_FIELD_OF_VIEW[0],)
    if sorted(branches) != [0, 1, 2, 3]:
        raise WeightsError(f"an ASPP head has four branches; found {[index + 1 for index in sorted(branches)]}")
    return "aspp", tuple(branches[index].dilation or LARGE_RATES[index] for index in range(4))


def _convolution(name: str, layer: Layer) -> dict[str, Tensor]:
    weight, bias = _blobs(layer, 2)
    return {f"{name}.weight": torch.from_numpy(weight), f"{name}.bias": _vector(bias)}


def _blobs(layer: Layer, count: int) -> list[NDArray[np.float32]]:
    if len(layer.blobs) != count or not all(blob.ndim for blob in layer.blobs):
        raise WeightsError(f"Caffe layer {layer.name!r} has {len(layer.blobs)} blobs; expected {count}")
    return layer.blobs


def _vector(blob: NDArray[np.float32]) -> Tensor:
    """Flatten a blob: legacy files store a vector as 1 x 1 x 1 x n."""
    return torch.from_numpy(blob.reshape(-1))
