"""The authors' .caffemodel files: DeepLab v2 on ResNet-101 and on VGG-16, the COCO initialisation, and bare trunks.

Layer names are those of the released prototxts. BatchNorm and Scale are two layers in Caffe: the first holds
[mean, variance, factor], each statistic being blob / factor, the second [gamma, beta].
"""

import re

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import WeightsError
from pipeline.models.architecture import CAFFE_RESNET, LARGE_FIELD_OF_VIEW, LARGE_RATES, Architecture, Head
from pipeline.models.card import CAFFE_PREPROCESSING, MULTI_SCALE, RESNET_CRF, SINGLE_SCALE, VGG_CRF
from pipeline.models.checkpoints.caffe_wire import Layer, read_layers
from pipeline.models.checkpoints.resnet import trunk_name
from pipeline.models.checkpoints.state import Backbone, Checkpoint, card_of, named

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


def convert(data: bytes) -> Checkpoint | Backbone:
    """The model, or the trunk where there is no head that segments, of a .caffemodel file.

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


def _resnet(layers: Layers, scales: tuple[float, ...]) -> Checkpoint | Backbone:
    trunk: dict[str, Tensor] = {}
    branches: dict[int, Layer] = {}
    for name, layer in layers.items():
        if head := _RESNET_HEAD.fullmatch(name):
            branches[int(head[1] or 0)] = layer
        elif name != "fc1000":  # ImageNet's classifier
            trunk |= _resnet_unit(layer)
    depth = trunk_name(trunk)
    if not branches:
        return Backbone(trunk=depth, resnet=CAFFE_RESNET, preprocessing=CAFFE_PREPROCESSING, state=trunk)
    head_kind, rates = _head(branches)
    state = {f"trunk.{key}": value for key, value in trunk.items()}
    for index, layer in branches.items():
        state |= _convolution("head" if head_kind == "pointwise" else f"head.branches.{index}", layer)
    card = card_of(
        name=f"caffe {depth}",
        architecture=Architecture(trunk=depth, head=head_kind, rates=rates, resnet=CAFFE_RESNET),
        classes=len(branches[min(branches)].blobs[0]),
        preprocessing=CAFFE_PREPROCESSING,
        crf=RESNET_CRF,
        scales=scales,
    )
    return Checkpoint(card=card, state=state)


def _resnet_unit(layer: Layer) -> dict[str, Tensor]:
    """One convolution, BatchNorm or Scale layer of the trunk."""
    if layer.name in _STEM:
        return _unit("stem", _STEM[layer.name], layer)
    found = _BLOCK.fullmatch(layer.name)
    if found is None:
        raise WeightsError(f"a ResNet has no layer {layer.name!r}")
    block = _BLOCKS[found[3]] if found[3] in _BLOCKS else int(found[3][1:])
    return _unit(f"layer{found[2]}.{block}.{_UNITS[found[4]]}", _KINDS[found[1]], layer)


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


def _vgg(layers: Layers, scales: tuple[float, ...]) -> Checkpoint | Backbone:
    trunk: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    branches: dict[int, Layer] = {}
    classes = 0
    for name, layer in layers.items():
        if _VGG_CONV.fullmatch(name):
            trunk |= _convolution(name, layer)
        elif found := _VGG_HEAD.fullmatch(name):
            index = int(found[3] or 1) - 1
            part = found[1] or found[2]
            head |= _convolution(f"head.branches.{index}.{part}", layer)
            if part == "fc6":
                branches[index] = layer
            elif part == "fc8":
                classes = len(layer.blobs[0])
        elif name != "fc8":  # ImageNet's classifier
            raise WeightsError(f"VGG-16 has no layer {name!r}")
    if not classes:
        return Backbone(trunk="vgg16", resnet=None, preprocessing=CAFFE_PREPROCESSING, state=trunk)
    head_kind, rates = _head(branches)
    card = card_of(
        name="caffe vgg16",
        architecture=Architecture(trunk="vgg16", head=head_kind, rates=rates),
        classes=classes,
        preprocessing=CAFFE_PREPROCESSING,
        crf=VGG_CRF,
        scales=scales,
    )
    return Checkpoint(card=card, state={f"trunk.{key}": value for key, value in trunk.items()} | head)


def _head(branches: dict[int, Layer]) -> tuple[Head, tuple[int, ...]]:
    """The kind of head and its atrous rates: as the file states them, else those of the released networks."""
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
    """Legacy files store a vector as 1 x 1 x 1 x n."""
    return torch.from_numpy(blob.reshape(-1))
