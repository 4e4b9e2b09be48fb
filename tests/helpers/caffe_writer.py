"""An encoder of .caffemodel files, in both kinds of layer and both forms of blob, for tests of the reader."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, payload: bytes | int) -> bytes:
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a file is written: field numbers of its layers, and the form of its blobs."""

    layer: int
    name: int
    blobs: int
    convolution: int
    legacy_shape: bool = False
    packed: bool = True

    def blob(self, array: Array) -> bytes:
        if self.legacy_shape:
            sizes = [1] * (4 - array.ndim) + list(array.shape)
            shape = b"".join(field(number, size) for number, size in enumerate(sizes, start=1))
        else:
            shape = field(7, field(1, b"".join(varint(size) for size in array.shape)))
        if self.packed:
            return shape + field(5, array.astype("<f4").tobytes())
        return shape + b"".join(varint(5 << 3 | 5) + struct.pack("<f", value) for value in array.ravel())

    def encode(self, name: str, arrays: Sequence[Array | Tensor], dilation: int | None = None) -> bytes:
        blobs = b"".join(field(self.blobs, self.blob(np.asarray(array))) for array in arrays)
        convolution = b"" if dilation is None else field(self.convolution, field(18, dilation))
        return field(self.layer, field(self.name, name.encode()) + convolution + blobs)


MODERN = Dialect(layer=100, name=1, blobs=7, convolution=106)
V1 = Dialect(layer=2, name=4, blobs=6, convolution=10, legacy_shape=True)
V1_UNPACKED = Dialect(layer=2, name=4, blobs=6, convolution=10, legacy_shape=True, packed=False)


def caffe_resnet(state: dict[str, Tensor], dialect: Dialect, *, factor: float = 2.5, shared: bool = False) -> bytes:
    """A state dict in kazuto's layout as the authors' ResNet file: BatchNorm, times `factor`, apart from Scale."""
    out = bytearray(field(1, b"a net"))
    for key, weight in state.items():
        unit, _, kind = key.rpartition(".")
        if kind != "weight" or unit.endswith(".bn"):
            continue
        if unit.startswith(("aspp", "fc")):
            name = "fc1_coco" if unit == "fc" else f"fc1_voc12_c{unit[-1]}"
            for suffix in ("", "_res05", "_res075") if shared else ("",):
                out += dialect.encode(name + suffix, [weight, state[f"{unit}.bias"]])
            continue
        unit = unit.removesuffix(".conv")
        conv, norm, scale = _caffe_names(unit)
        bn = {name: state[f"{unit}.bn.{name}"].numpy() for name in ("weight", "bias", "running_mean", "running_var")}
        out += dialect.encode(conv, [weight])
        gathered = [(bn[name] * factor).astype(np.float32) for name in ("running_mean", "running_var")]
        statistics: list[Array] = [*gathered, np.array([factor], np.float32)]
        out += dialect.encode(norm, statistics)
        out += dialect.encode(scale, [bn["weight"], bn["bias"]])
    return bytes(out)


def caffe_vgg(state: dict[str, Tensor], dialect: Dialect, rates: Sequence[int] = ()) -> bytes:
    """Weights under Caffe's own names; the rates, where given, are stated by the fc6 layers."""
    out = bytearray()
    branch = 0
    for key in state:
        name, _, kind = key.rpartition(".")
        if kind == "weight":
            dilation = None
            if name.startswith("fc6") and rates:
                dilation, branch = rates[branch], branch + 1
            out += dialect.encode(name, [state[key], state[f"{name}.bias"]], dilation)
    return bytes(out)


def _caffe_names(unit: str) -> tuple[str, str, str]:
    """layer4.block3.reduce -> res4b2_branch2a and its BatchNorm and Scale."""
    if unit == "layer1.conv1":
        return "conv1", "bn_conv1", "scale_conv1"
    layer, block, part = unit.split(".")
    number = int(block.removeprefix("block"))
    deep = layer in ("layer3", "layer4") and number > 1
    letter = f"b{number - 1}" if deep else "abc"[number - 1]
    branch = {"shortcut": "1", "reduce": "2a", "conv3x3": "2b", "increase": "2c"}[part]
    suffix = f"{layer[-1]}{letter}_branch{branch}"
    return f"res{suffix}", f"bn{suffix}", f"scale{suffix}"
