"""TIFF: against tifffile and libtiff, over depths, sample layouts, byte orders, strips and tiles, compressions."""

import io
import itertools
import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from pipeline import images
from pipeline.errors import ImageError
from tests.helpers.encoded import packed_rows, rgb_on_white, tiff

HEIGHT, WIDTH = 37, 53  # neither a multiple of a tile nor of a byte's pixels
ORDERS = ("<", ">")
PARTS = {"one strip": {}, "strips": {"rowsperstrip": 7}, "tiles": {"tile": (16, 16)}, "wide tiles": {"tile": (16, 32)}}
COMPRESSIONS = (None, "lzw", "deflate", "packbits")

LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {
    "rgb": (3, {"photometric": "rgb"}),
    "rgb and alpha": (4, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "rgb and premultiplied alpha": (4, {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
    "rgb and another": (4, {"photometric": "rgb", "extrasamples": ["unspecified"]}),
    "inks": (4, {"photometric": "separated"}),
}


def noise(samples: int, bits: int) -> NDArray[Any]:
    shape = (HEIGHT, WIDTH, samples) if samples > 1 else (HEIGHT, WIDTH)
    return np.random.default_rng(bits).integers(0, 2**bits, shape).astype(np.uint8 if bits <= 8 else np.uint16)


def written(pixels: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, metadata=None, **options)
    return buffer.getvalue()


def expected(layout: str, pixels: NDArray[Any]) -> NDArray[np.float64]:
    """RGB of what tifffile reads."""
    if layout == "inks":
        light = 255 - (pixels if pixels.dtype == np.uint8 else pixels >> 8).astype(np.float64)
        return light[..., :3] * light[..., 3:] / 255
    if layout == "rgb and another":
        pixels = pixels[..., :3]
    return rgb_on_white(pixels, premultiplied=layout == "rgb and premultiplied alpha")


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_colours(layout: str, bits: int, planes: str, parts: str, order: str, compression: str | None) -> None:
    samples, options = LAYOUTS[layout]
    pixels = noise(samples, bits)
    if "premultiplied" in layout:
        pixels[..., :3] = np.minimum(pixels[..., :3], pixels[..., 3:])
    stored = np.moveaxis(pixels, -1, 0) if planes == "separate" else pixels
    data = written(stored, planarconfig=planes, byteorder=order, compression=compression, **PARTS[parts], **options)
    other = tifffile.imread(io.BytesIO(data))
    other = np.moveaxis(other, 0, -1) if planes == "separate" else other
    atol = 0 if samples == 3 or layout == "rgb and another" else 1.6 if "premultiplied" in layout else 1
    np.testing.assert_allclose(images.decode(data), expected(layout, other), atol=atol)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_big_tiff(compression: str | None) -> None:
    pixels = noise(3, 16)
    for planes, stored in (("contig", pixels), ("separate", np.moveaxis(pixels, -1, 0))):
        data = written(stored, photometric="rgb", planarconfig=planes, bigtiff=True, compression=compression)
        np.testing.assert_array_equal(images.decode(data), pixels >> 8)


def test_a_big_tiff_in_big_endian_order_is_refused_by_name() -> None:
    data = written(noise(3, 8), photometric="rgb", bigtiff=True, byteorder=">")
    with pytest.raises(ImageError, match="BigTIFF in big-endian order"):
        images.decode(data)
    assert images.header_size(data) == (0, 0)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("bits", [1, 8, 16])
def test_greys(bits: int, photometric: str, parts: str, order: str, compression: str | None) -> None:
    pixels = noise(1, bits).astype(bool) if bits == 1 else noise(1, bits)
    data = written(pixels, photometric=photometric, byteorder=order, compression=compression, **PARTS[parts])
    if (bits, photometric, order) == (16, "miniswhite", ">"):
        with pytest.raises(ImageError, match="unknown pixel mode"):
            images.decode(data)
        return
    grey = tifffile.imread(io.BytesIO(data)) / (2**bits - 1) * 255
    grey = 255 - grey if photometric == "miniswhite" else grey
    np.testing.assert_allclose(images.decode(data), rgb_on_white(grey), atol=0.51 if bits == 16 else 1e-9)


@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_order_of_bits(bits: int, order: str, fill_order: int) -> None:
    pixels = noise(1, bits)[:, :52]
    rows = (
        packed_rows(pixels, bits, order) if bits != 12 else packed_rows(pixels[..., None] >> [8, 4, 0] & 15, 4, order)
    )
    if fill_order == 2:
        rows = np.packbits(np.unpackbits(rows.reshape(-1, 1), axis=1)[:, ::-1], axis=1)
    data = tiff(rows.tobytes(), 52, HEIGHT, (bits,), {262: (1,), 266: (fill_order,)}, order)
    if (bits == 12 and (order == ">" or fill_order == 2)) or (bits, order, fill_order) == (16, ">", 2):
        with pytest.raises(ImageError, match="unknown pixel mode"):
            images.decode(data)
        return
    grey = tifffile.imread(io.BytesIO(data)) / (2**bits - 1) * 255
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(data)), pixels)
    np.testing.assert_allclose(images.decode(data), rgb_on_white(grey), atol=0.51 if bits > 8 else 1e-9)


@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("compression", ["lzw", "deflate"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "uint8 rgb", "uint16 rgb"])
def test_predictors(kind: str, order: str, compression: str, predictor: bool) -> None:
    """Floats of big-endian files too: what libtiff unpacks is in the machine's own order."""
    kind, _, colours = kind.partition(" ")
    shape = (HEIGHT, WIDTH, 3) if colours else (HEIGHT, WIDTH)
    unit = np.random.default_rng(0).random(shape)
    pixels = unit.astype(kind) if kind == "float32" else (unit * np.iinfo(kind).max).astype(kind)
    photometric = "rgb" if colours else "minisblack"
    data = written(pixels, byteorder=order, compression=compression, predictor=predictor, photometric=photometric)
    other = tifffile.imread(io.BytesIO(data))
    other = other * 255 if kind == "float32" else other
    atol = 0.51 if not colours and kind != "uint8" else 0
    np.testing.assert_allclose(images.decode(data), rgb_on_white(other), atol=atol)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["int16", "int32", "uint32", "float32"])
def test_other_grey_samples(kind: str, order: str, compression: str | None) -> None:
    """Signed and 32-bit integers have their white at 65535."""
    unit = np.random.default_rng(0).random((HEIGHT, WIDTH))
    pixels = (unit * (1 if kind == "float32" else 32767)).astype(kind)
    data = written(pixels, byteorder=order, compression=compression)
    if kind == "uint32" and order == ">":
        with pytest.raises(ImageError, match="unknown pixel mode"):
            images.decode(data)
        return
    other = tifffile.imread(io.BytesIO(data)) * (255 if kind == "float32" else 255 / 65535)
    np.testing.assert_allclose(images.decode(data), rgb_on_white(other), atol=0.51)


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["int8", "int16", "int32"])
def test_grey_below_0_is_an_error(kind: str, order: str, compression: str | None) -> None:
    pixels = np.full((3, 4), 100, kind)
    data = written(pixels, byteorder=order, compression=compression)
    assert images.decode(data).max() == (100 if kind == "int8" else 0)
    pixels[1, 1] = -3
    with pytest.raises(ImageError, match="grey values"):
        images.decode(written(pixels, byteorder=order, compression=compression))


@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [8, 16])
def test_palettes(bits: int, order: str, compression: str | None) -> None:
    """Entries have 16 bits; where all are below 256, a writer gave them 8, as libtiff takes them too."""
    colours = np.random.default_rng(0).integers(0, 2**bits, (3, 256)).astype(np.uint16)
    pixels = noise(1, 8)
    data = written(pixels, byteorder=order, compression=compression, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(images.decode(data), np.moveaxis(colours[:, pixels] >> (bits - 8), 0, -1))
    np.testing.assert_array_equal(images.decode(data), imagecodecs.tiff_decode(data, asrgb=True)[..., :3])


@pytest.mark.parametrize("compression", ["zstd", "lzma", "jpeg", "packbits", "deflate"])
@pytest.mark.parametrize("parts", ["one strip", "tiles"])
def test_compressions(compression: str, parts: str) -> None:
    data = written(noise(3, 8), compression=compression, photometric="rgb", **PARTS[parts])
    np.testing.assert_allclose(images.decode(data), tifffile.imread(io.BytesIO(data)), atol=compression == "jpeg")


SUBSAMPLINGS = [((1, 1), True), ((2, 1), True), ((1, 2), True), ((2, 2), True), ((2, 2), False)]


@pytest.mark.parametrize(("order", "steps"), list(itertools.product(ORDERS, SUBSAMPLINGS)), ids=str)
def test_subsampled_chroma(order: str, steps: tuple[tuple[int, int], bool]) -> None:
    """Blocks of luma with one chroma pair each, not compressed; without the tag (2, 2) counts."""
    (across, down), tagged = steps
    rng = np.random.default_rng(0)
    luma = rng.integers(50, 200, (8, 12), dtype=np.uint8)
    chroma = rng.integers(60, 200, (8 // down, 12 // across, 2), dtype=np.uint8)
    blocks = luma.reshape(8 // down, down, 12 // across, across).swapaxes(1, 2).reshape(*chroma.shape[:2], -1)
    tags = {262: (6,), **({530: (across, down)} if tagged else {})}
    data = tiff(np.concatenate([blocks, chroma], -1).tobytes(), 12, 8, (8, 8, 8), tags, order) + bytes(999)
    blue, red = np.moveaxis(chroma.repeat(down, 0).repeat(across, 1).astype(np.float64) - 128, -1, 0)
    colours = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], -1)
    np.testing.assert_allclose(images.decode(data), colours.clip(0, 255), atol=1)
    np.testing.assert_allclose(images.decode(data), imagecodecs.tiff_decode(data, asrgb=True)[..., :3], atol=1)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_planes_of_grey_and_alpha_are_an_error(compression: str | None) -> None:
    pixels = np.moveaxis(noise(2, 8), -1, 0)
    data = written(
        pixels, photometric="minisblack", planarconfig="separate", extrasamples=["unassalpha"], compression=compression
    )
    with pytest.raises(ImageError, match="grey and alpha in separate planes"):
        images.decode(data)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("bits", [8, 16])
def test_truncated_planes_are_an_error(bits: int, part: float) -> None:
    pixels = np.moveaxis(noise(3, bits), -1, 0)
    data = written(pixels, photometric="rgb", planarconfig="separate")
    with pytest.raises(ImageError):
        images.decode(data[: int(len(data) * part)])


@pytest.mark.parametrize("bits", [8, 16])
def test_the_limit_comes_before_the_planes(bits: int) -> None:
    data = written(np.moveaxis(noise(3, bits), -1, 0), photometric="rgb", planarconfig="separate")
    with pytest.raises(ImageError, match="the limit is 1000"):
        images.decode(data, max_pixels=1000)


@pytest.mark.parametrize(
    ("planes", "compression"), [("contig", "deflate"), ("separate", "deflate"), ("separate", None)]
)
def test_tiles_far_larger_than_the_picture_are_an_error(planes: str, compression: str | None) -> None:
    pixels = noise(3, 16) if planes == "contig" else np.moveaxis(noise(3, 16), -1, 0)
    data = written(pixels, photometric="rgb", planarconfig=planes, tile=(16, 32), compression=compression)
    length = struct.pack("<HHII", 323, 4, 1, 16)
    assert data.count(length) == 1
    with pytest.raises(ImageError, match="in tiles of 32x16000000"):
        images.decode(data.replace(length, struct.pack("<HHII", 323, 4, 1, 16_000_000)))
