"""Read .caffemodel files: just enough of protobuf's wire format to find each layer's name, blobs and dilation.

The input is not trusted. Every length is checked against the bytes that are there, nothing is allocated from a number
that the file states, and the nesting is fixed: net, layer, blob, shape. Field numbers are those of caffe.proto.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import WeightsError

# wire types
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
MAX_LAYERS = 10_000
MAX_BLOBS = 16
MAX_AXES = 32
MAX_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Kind:
    """Hold the field numbers of one of the two layer messages."""

    name: int
    blobs: int
    convolution: int


# by the field of NetParameter that holds them: V1LayerParameter `layers` and LayerParameter `layer`
LAYER_KINDS = {2: Kind(name=4, blobs=6, convolution=10), 100: Kind(name=1, blobs=7, convolution=106)}
BLOB_LEGACY_SHAPE, BLOB_DATA, BLOB_SHAPE = range(1, 5), 5, 7
SHAPE_DIM = 1
CONVOLUTION_DILATION = 18

Field = tuple[int, int, int | memoryview]  # number, wire type, value


@dataclass(frozen=True)
class Layer:
    """Hold a layer that has weights. `dilation` is None where the file states none."""

    name: str
    blobs: list[NDArray[np.float32]]
    dilation: int | None


def read_layers(data: bytes) -> list[Layer]:
    """List the layers with weights of a serialised NetParameter, in file order. Raises WeightsError if damaged."""
    layers: list[Layer] = []
    for number, wire, value in _fields(memoryview(data)):
        if number in LAYER_KINDS:
            layer = _layer(_message(wire, value), LAYER_KINDS[number])
            if layer.blobs:
                layers.append(layer)
            _limit(len(layers), MAX_LAYERS, "layers")
    return layers


def _layer(message: memoryview, kind: Kind) -> Layer:
    name = ""
    blobs: list[NDArray[np.float32]] = []
    dilation = None
    for number, wire, value in _fields(message):
        if number == kind.name:
            name = bytes(_message(wire, value)[:MAX_NAME_BYTES]).decode(errors="replace")
        elif number == kind.blobs:
            blobs.append(_blob(_message(wire, value)))
            _limit(len(blobs), MAX_BLOBS, f"blobs in layer {name}")
        elif number == kind.convolution:
            dilation = next(iter(_integers(_message(wire, value), CONVOLUTION_DILATION)), None)
    return Layer(name, blobs, dilation)


def _blob(message: memoryview) -> NDArray[np.float32]:
    data = bytearray()
    shape: list[int] | None = None
    legacy: dict[int, int] = {}
    for number, wire, value in _fields(message):
        if number == BLOB_DATA:
            data += _floats(wire, value)
        elif number == BLOB_SHAPE:
            shape = _integers(_message(wire, value), SHAPE_DIM)
        elif number in BLOB_LEGACY_SHAPE and isinstance(value, int):
            legacy[number] = value
    if shape is None:
        shape = [legacy.get(number, 1) for number in BLOB_LEGACY_SHAPE]
    values = np.frombuffer(data, "<f4")
    if math.prod(shape) != values.size or max(shape, default=1) > values.size:
        raise WeightsError(f"a blob of shape {shape} holds {values.size} numbers")
    return values.reshape(shape)


def _floats(wire: int, value: int | memoryview) -> memoryview:
    """Return the bytes of a packed run of floats, or of a single one."""
    if wire not in (BYTES, FIXED32) or not isinstance(value, memoryview) or len(value) % 4:
        raise WeightsError("a blob's data is not a run of 32-bit floats")
    return value


def _integers(message: memoryview, field: int) -> list[int]:
    """Return a repeated integer field, packed or not."""
    integers: list[int] = []
    for number, _, value in _fields(message):
        if number != field:
            continue
        if isinstance(value, int):
            integers.append(value)
        else:
            position = 0
            while position < len(value):
                item, position = _varint(value, position)
                integers.append(item)
                _limit(len(integers), MAX_AXES, "integers")
        _limit(len(integers), MAX_AXES, "integers")
    return integers


def _limit(count: int, limit: int, what: str) -> None:
    """Bound the memory that a small hostile file can make of itself."""
    if count > limit:
        raise WeightsError(f"more than {limit} {what}")


def _message(wire: int, value: int | memoryview) -> memoryview:
    if wire != BYTES or not isinstance(value, memoryview):
        raise WeightsError(f"a message was expected where the file has wire type {wire}")
    return value


def _fields(message: memoryview) -> Iterator[Field]:
    """Yield each field: an integer for a varint, else a view of its bytes, which always lie within the message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire = key & 7
        if wire == VARINT:
            value, position = _varint(message, position)
            yield key >> 3, wire, value
            continue
        if wire == BYTES:
            length, position = _varint(message, position)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise WeightsError(f"not a .caffemodel file: wire type {wire} at byte {position} of a message")
        if length > len(message) - position:
            raise WeightsError(f"cut short: {length} bytes announced, {len(message) - position} left")
        yield key >> 3, wire, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the unsigned integer at `position`, and the position after it."""
    value = 0
    for index, byte in enumerate(message[position : position + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise WeightsError(f"an integer without an end at byte {position} of a message")
