"""PNG: against libpng, and what surrounds its pixels."""

import itertools
import struct
import time
import tracemalloc
import zlib

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import images
from tests.helpers.encoded import png, png_chunk, rgb_on_white

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
LAYOUTS = [
    (colour_type, depth, interlaced, transparent)
    for colour_type, depths in DEPTHS.items()
    for depth, interlaced, transparent in itertools.product(depths, (False, True), (False, True))
    if not (transparent and colour_type in (GREY_ALPHA, RGB_ALPHA))
]


def picture(colour_type: int, depth: int, interlaced: bool, transparent: bool) -> bytes:
    rng = np.random.default_rng(depth)
    samples = rng.integers(0, 2**depth, (13, 11, SAMPLES[colour_type]))
    samples[3:6, 2:7] = samples[4, 4]
    chunks = []
    if colour_type == PALETTE:
        chunks.append((b"PLTE", rng.integers(0, 256, 3 * 2**depth, dtype=np.uint8).tobytes()))
    if transparent and colour_type == PALETTE:
        chunks.append((b"tRNS", rng.integers(0, 256, 2**depth, dtype=np.uint8).tobytes()))
    elif transparent:
        if depth == 16:  # neighbours of the transparent colour, in the low and in the high byte
            samples[0, :2] = samples[4, 4] ^ 1, samples[4, 4] ^ 256
        chunks.append((b"tRNS", struct.pack(f">{samples.shape[2]}H", *samples[4, 4])))
    return png(samples, depth, colour_type, *chunks, interlaced=interlaced)


@pytest.mark.parametrize(("colour_type", "depth", "interlaced", "transparent"), LAYOUTS)
def test_libpng_sees_the_same(colour_type: int, depth: int, interlaced: bool, transparent: bool) -> None:
    data = picture(colour_type, depth, interlaced, transparent)
    other = imagecodecs.png_decode(data)
    if depth == 16 and colour_type in (GREY, GREY_ALPHA):  # with alpha the high byte counts, as of RGB
        other = (np.rint(other / 257) if colour_type == GREY else other >> 8).astype(np.uint8)
    exact = other.ndim == 3 and other.shape[2] == 3
    np.testing.assert_allclose(images.decode(data), rgb_on_white(other), atol=0 if exact else 0.51)


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_the_transparent_grey_alone_is_white(depth: int) -> None:
    samples = np.arange(min(2**depth, 256))[None, :, None] + (300 if depth == 16 else 0)
    pixels = images.decode(png(samples, depth, GREY, (b"tRNS", struct.pack(">H", samples[0, 1, 0]))))
    opaque = images.decode(png(samples, depth, GREY))
    assert (pixels[0, 1] == 255).all()
    np.testing.assert_array_equal(np.delete(pixels, 1, 1), np.delete(opaque, 1, 1))


def test_all_16_bits_of_a_colour_decide_whether_it_is_transparent() -> None:
    samples = np.array([[[51400, 25700, 12850], [51401, 25700, 12850], [200, 100, 50]]])
    pixels = images.decode(png(samples, 16, RGB, (b"tRNS", struct.pack(">3H", 51400, 25700, 12850))))
    np.testing.assert_array_equal(pixels[0], [(255, 255, 255), (200, 100, 50), (0, 0, 0)])
    pixels = images.decode(png(samples, 16, RGB, (b"tRNS", struct.pack(">3H", 200, 100, 50))))
    np.testing.assert_array_equal(pixels[0], [(200, 100, 50), (200, 100, 50), (255, 255, 255)])


def test_bits_of_a_transparent_grey_above_the_depth_do_not_count() -> None:
    pixels = images.decode(png(np.array([[[2], [1]]]), 2, GREY, (b"tRNS", struct.pack(">H", 0xFF02))))
    np.testing.assert_array_equal(pixels[0, :, 0], [255, 85])


UNPACKED = 1_300_000
METADATA = {
    "zTXt": b"key\0\0" + zlib.compress(bytes(UNPACKED)),
    "iTXt": b"key\0\1\0en\0key\0" + zlib.compress(b"a" * UNPACKED),
    "iCCP": b"name\0\0" + zlib.compress(bytes(UNPACKED)),
}


def samples_of_rgb() -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3))


def with_chunks(chunk: bytes, count: int, *, behind: bool) -> bytes:
    """A PNG with a chunk `count` times, before its pixels or behind them."""
    data = png(samples_of_rgb(), 8, RGB)
    at = len(data) - 12 if behind else 33
    return data[:at] + chunk * count + data[at:]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("kind", METADATA)
def test_large_metadata_does_not_fail_a_good_picture(kind: str, behind: bool) -> None:
    data = with_chunks(png_chunk(kind.encode(), METADATA[kind]), 1, behind=behind)
    np.testing.assert_array_equal(images.decode(data), samples_of_rgb())
    assert images.header_pixels(data) == 35


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt"])
def test_many_texts_do_not_fail_a_good_picture_and_are_bounded(kind: str, behind: bool) -> None:
    """200 texts of a million bytes each, of which a compressed one takes a thousand in the file."""
    text = bytes(1_000_000)
    data = {
        "tEXt": b"key\0" + text,
        "zTXt": b"key\0\0" + zlib.compress(text),
        "iTXt": b"key\0\1\0en\0key\0" + zlib.compress(text),
    }[kind]
    whole = with_chunks(png_chunk(kind.encode(), data), 200, behind=behind)
    started = time.perf_counter()
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(images.decode(whole), samples_of_rgb())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(whole) + 12_000_000
    assert time.perf_counter() - started < 20


def test_the_orientation_in_a_text_below_the_limit_still_counts() -> None:
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x tiff:Orientation="6"/>'
    data = with_chunks(png_chunk(b"iTXt", text) + png_chunk(b"iCCP", METADATA["iCCP"]), 1, behind=False)
    np.testing.assert_array_equal(images.decode(data), np.rot90(samples_of_rgb(), -1))
    assert images.orientation(data) == 6  # by which a mask of the stored picture is turned


def test_a_file_cut_short_within_its_metadata_has_a_size_or_none() -> None:
    data = with_chunks(png_chunk(b"zTXt", METADATA["zTXt"]), 1, behind=False)
    for end in range(0, len(data), 7):
        assert images.header_pixels(data[:end]) in (0, 35)
