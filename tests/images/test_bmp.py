"""BMP: every header, depth and arrangement of bits, against imagecodecs' reader and against what was written."""

import itertools

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import images
from pipeline.errors import ImageError
from tests.helpers.encoded import bmp, rgb_on_white

HEADERS = (12, 40, 52, 56, 64, 108, 124)
PALETTES = {
    "colours": lambda entries: np.random.default_rng(0).integers(0, 256, (entries, 3), dtype=np.uint8),
    "ramp": lambda entries: np.linspace(0, 255, entries).astype(np.uint8)[:, None].repeat(3, 1),
    "dark greys": lambda entries: np.arange(entries, dtype=np.uint8)[:, None].repeat(3, 1),
    "black and white": lambda _: np.array([[0] * 3, [255] * 3], np.uint8),
    "white and black": lambda _: np.array([[255] * 3, [0] * 3], np.uint8),
    "three greys": lambda _: np.arange(3, dtype=np.uint8)[:, None].repeat(3, 1),
}
MASKS = {
    "BGRX": (32, (0xFF0000, 0xFF00, 0xFF, 0)),
    "XBGR": (32, (0xFF000000, 0xFF0000, 0xFF00, 0)),
    "BGXR": (32, (0xFF000000, 0xFF00, 0xFF, 0)),
    "RGBA": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "BGRA": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "ABGR": (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    "BGAR": (32, (0xFF000000, 0xFF00, 0xFF, 0xFF0000)),
    "565": (16, (0xF800, 0x7E0, 0x1F, 0)),
    "555": (16, (0x7C00, 0x3E0, 0x1F, 0)),
}
"""Bits of a pixel, and the masks of red, green, blue and alpha."""


def noise(bits: int) -> NDArray[np.int64]:
    return np.random.default_rng(bits).integers(0, 2**bits, (7, 13))


def channel(pixels: NDArray[np.int64], mask: int) -> NDArray[np.int64]:
    """The bits of a mask, scaled to 8: what the specification says, whoever reads it."""
    low = (mask & -mask).bit_length() - 1
    white = mask >> low
    return ((pixels & mask) >> low) * 255 // white


LAYOUTS = [(12, False), *itertools.product(HEADERS[1:], (False, True))]
"""Bytes of the header, and whether the first row is the upper one, which the oldest header cannot say."""

WITH_PALETTE = [
    (bits, palette, header_bytes, top_down)
    for bits, palette, (header_bytes, top_down) in itertools.product((1, 4, 8), PALETTES, LAYOUTS)
    if len(PALETTES[palette](2**bits)) == 2**bits or (header_bytes > 12 and len(PALETTES[palette](2**bits)) < 2**bits)
]
WITH_MASKS = [
    (order, header_bytes, alpha)
    for order, header_bytes, alpha in itertools.product(MASKS, HEADERS[1:], ("noise", "full", "empty"))
    if header_bytes != 64 and (header_bytes >= 56 if MASKS[order][1][3] else alpha == "noise")
]


@pytest.mark.parametrize(("bits", "palette", "header_bytes", "top_down"), WITH_PALETTE)
def test_palettes(bits: int, palette: str, header_bytes: int, top_down: bool) -> None:
    colours = PALETTES[palette](2**bits)
    pixels = noise(bits) % len(colours)
    data = bmp(pixels, bits, header_bytes=header_bytes, palette=colours, top_down=top_down)
    np.testing.assert_array_equal(images.decode(data), colours[pixels][..., ::-1])
    if header_bytes > 12:  # imagecodecs reads no older header
        np.testing.assert_array_equal(images.decode(data), rgb_on_white(imagecodecs.bmp_decode(data)))


@pytest.mark.parametrize(("header_bytes", "top_down"), LAYOUTS)
@pytest.mark.parametrize("bits", [16, 24, 32])
def test_pixels_without_masks(bits: int, header_bytes: int, top_down: bool) -> None:
    data = bmp(noise(bits), bits, header_bytes=header_bytes, top_down=top_down)
    masks = (0x7C00, 0x3E0, 0x1F) if bits == 16 else (0xFF0000, 0xFF00, 0xFF)
    expected = np.stack([channel(noise(bits), mask) for mask in masks], -1)
    np.testing.assert_array_equal(images.decode(data), expected)
    if header_bytes > 12:
        np.testing.assert_array_equal(images.decode(data), rgb_on_white(imagecodecs.bmp_decode(data)))


@pytest.mark.parametrize(("order", "header_bytes", "alpha"), WITH_MASKS)
def test_masks(order: str, header_bytes: int, alpha: str) -> None:
    """An alpha channel that is 0 everywhere was never filled: opaque, as viewers show it, and not white paper."""
    bits, masks = MASKS[order]
    pixels = noise(bits)
    pixels = {"noise": pixels, "full": pixels | masks[3], "empty": pixels & ~masks[3]}[alpha]
    data = bmp(pixels, bits, header_bytes=header_bytes, masks=masks[: 3 if header_bytes < 56 else 4])
    shown = [channel(pixels, mask) for mask in masks[: 4 if masks[3] and alpha == "noise" else 3]]
    atol = 0.51 if len(shown) == 4 else 0
    np.testing.assert_allclose(images.decode(data), rgb_on_white(np.stack(shown, -1)), atol=atol)
    if header_bytes > 40 or bits == 16:  # else imagecodecs takes the first pixel for a fourth mask
        other = imagecodecs.bmp_decode(data)
        other = other if alpha == "noise" else other[..., :3]
        np.testing.assert_allclose(images.decode(data), rgb_on_white(other), atol=atol)


def test_one_bit_of_alpha_in_16_is_not_applied() -> None:
    """Pixels of 16 bits are opaque: Pillow reads their colours alone, imagecodecs their alpha too."""
    pixels = noise(16)
    masks = (0x7C00, 0x3E0, 0x1F)
    data = bmp(pixels, 16, header_bytes=56, masks=(*masks, 0x8000))
    np.testing.assert_array_equal(images.decode(data), np.stack([channel(pixels, mask) for mask in masks], -1))


@pytest.mark.parametrize(
    ("bits", "masks"),
    [(32, (0x3FF00000, 0xFFC00, 0x3FF, 0)), (32, (0xFF, 0xFF00, 0xFF0000, 0)), (16, (0xF00, 0xF0, 0xF, 0xF000))],
)
def test_other_masks_are_an_error(bits: int, masks: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="bitfields layout"):
        images.decode(bmp(noise(bits), bits, header_bytes=56, masks=masks))
