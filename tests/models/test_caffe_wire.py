"""The wire-format reader: both kinds of layer, every form of blob, and input that means harm."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.errors import WeightsError
from pipeline.models.checkpoints import caffe
from pipeline.models.checkpoints.caffe_wire import read_layers
from tests.helpers.caffe_writer import MODERN, V1, V1_UNPACKED, Dialect, field, varint


@pytest.mark.parametrize("dialect", [MODERN, V1, V1_UNPACKED])
def test_layers(dialect: Dialect) -> None:
    """Names, blobs and dilation come back; a layer without weights, such as a ReLU, is left out."""
    weight, bias = torch.randn(4, 3, 3, 3), torch.randn(4)
    data = field(1, b"net") + dialect.encode("relu", []) + dialect.encode("conv", [weight, bias], dilation=12)
    (layer,) = read_layers(data)
    assert (layer.name, layer.dilation) == ("conv", 12)
    np.testing.assert_array_equal(layer.blobs[0], weight)
    np.testing.assert_array_equal(layer.blobs[1].ravel(), bias)


def test_unknown_fields_are_skipped() -> None:
    blob = MODERN.blob(np.ones(2, np.float32))
    odd = varint(50 << 3 | 1) + bytes(8) + varint(51 << 3 | 5) + bytes(4) + field(52, 2**63) + field(53, b"text")
    layer = field(1, b"conv") + odd + field(7, odd + blob) + odd
    (conv,) = read_layers(odd + field(100, layer) + odd)
    assert conv.blobs[0].tolist() == [1, 1]


def blob(shape: bytes, values: int) -> bytes:
    return field(100, field(1, b"conv1") + field(7, shape + field(5, bytes(4 * values))))


HOSTILE = {
    "a length past the end": field(100, b"")[:-1] + varint(2**60),
    "a length past its message": field(100, varint(1 << 3 | 2) + varint(40) + b"short"),
    "an endless integer": b"\xff" * 100,
    "a key alone": varint(100 << 3 | 2),
    "a group": varint(100 << 3 | 3) + b"\x00" * 10,
    "a layer that is a number": field(100, 7),
    "a shape beyond the data": blob(field(7, field(1, varint(2**40))), 2),
    "a product that overflows": blob(field(7, field(1, varint(2**32) * 2 + varint(0))), 0),
    "a negative side": blob(field(7, field(1, varint(2**64 - 1))), 1),
    "no data": blob(field(7, field(1, varint(0) + varint(2**62))), 0),
    "many axes": blob(field(7, field(1, varint(1) * 100_000)), 1),
    "half a float": field(100, field(7, field(5, b"123"))),
    "floats as numbers": field(100, field(7, field(5, 3))),
    "text": b"<!DOCTYPE html><html><body>not found</body></html>",
    "many layers": field(100, field(7, field(7, field(1, varint(1))) + field(5, bytes(4)))) * 20_000,
    "many blobs": field(100, field(7, field(7, field(1, varint(1))) + field(5, bytes(4))) * 20_000),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_input(data: bytes) -> None:
    """A WeightsError each, and no more memory than a small multiple of the file."""
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError):
            caffe.convert(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_a_file_cut_short_is_refused() -> None:
    """Even where the cut falls into something that the reader would skip."""
    whole = MODERN.encode("conv", [np.ones(2, np.float32)]) + field(99, b"to be skipped")
    assert len(read_layers(whole)) == 1
    with pytest.raises(WeightsError, match="cut short: 13 bytes announced, 12 left"):
        read_layers(whole[:-1])


CONV = MODERN.encode("conv1", [np.ones((2, 3, 1, 1), np.float32)], dilation=2)
SCALAR = field(100, field(1, b"fc1_x") + field(7, field(7, b"") + field(5, bytes(4))))


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 400), byte=st.integers(0, 255), cut=st.integers(0, 400))
def test_any_damage_is_a_weights_error(position: int, byte: int, cut: int) -> None:
    whole = bytearray(CONV + V1.encode("bn_conv1", [np.ones(2, np.float32)] * 3) + SCALAR + CONV)
    whole[position % len(whole)] = byte
    with pytest.raises(WeightsError):
        caffe.convert(bytes(whole[: max(1, cut)]))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
@example(b"")
def test_any_bytes_are_a_weights_error(data: bytes) -> None:
    with pytest.raises(WeightsError):
        caffe.convert(data)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([("data", 1)], "no known network"),
        ([("conv1", 2)], "'conv1' has 2 blobs; expected 1"),
        ([("conv1", 1), ("bn_conv1", 2)], "'bn_conv1' has 2 blobs; expected 3"),
        ([("conv1", 1), ("res2z_branch1", 1)], "no layer 'res2z_branch1'"),
        ([("conv1_1", 2), ("conv9_9", 2)], "no layer 'conv9_9'"),
        ([("conv1_1", 2), ("fc6_1", 2), ("fc8_voc12_1", 2), ("fc6_2", 2)], "four branches"),
    ],
)
def test_layers_that_do_not_belong(layers: list[tuple[str, int]], message: str) -> None:
    data = b"".join(MODERN.encode(name, [np.ones((1, 1, 1, 1), np.float32)] * blobs) for name, blobs in layers)
    with pytest.raises(WeightsError, match=message):
        caffe.convert(data)
