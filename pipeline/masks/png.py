"""Encoding a mask as a palette PNG, a confidence map as a grey one, and decoding them."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from pipeline.errors import ImageError

_GREY, _PALETTE = 0, 3  # colour types of PNG


def pascal_palette(n: int = 256) -> NDArray[np.uint8]:
    """Return colours (n, 3) uint8 as the PASCAL VOC development kit: the bits of a class id go to R, G, B in turn."""
    ids = np.arange(n)
    palette = np.zeros((n, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def encode(mask: NDArray[np.uint8], palette: Sequence[Sequence[int]] | NDArray[np.uint8]) -> bytes:
    """Encode a mask (H, W) uint8 as an 8-bit palette PNG; ids past the end of `palette` get their PASCAL colours.

    Raises:
        ImageError: not (H, W) uint8, or empty.
    """
    _check("a mask", mask)
    colours = pascal_palette(max(len(palette), int(mask.max()) + 1))
    colours[: len(palette)] = palette
    return _png(mask, _PALETTE, [(b"PLTE", colours.tobytes())])


def encode_confidence(confidence: NDArray[np.uint8]) -> bytes:
    """Encode a confidence map (H, W) uint8 as an 8-bit grey PNG. Raises ImageError as `encode` does."""
    _check("a confidence map", confidence)
    return _png(confidence, _GREY, [])


def _check(what: str, values: NDArray[np.uint8]) -> None:
    if values.ndim != 2 or values.dtype != np.uint8 or values.size == 0:
        raise ImageError(f"{what} is (H, W) uint8, not {values.shape} {values.dtype}")


def _png(values: NDArray[np.uint8], colour_type: int, more: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Write values (H, W) as a PNG with `more` chunks in front of its pixels.

    Rows are coded as differences from the row above, then run lengths: on label masks as small as zlib's default
    search at a fifth of its time.
    """
    height, width = values.shape
    rows = np.empty((height, 1 + width), np.uint8)
    rows[:, 0] = 2  # PNG filter type Up
    rows[0, 1:] = values[0]
    np.subtract(values[1:], values[:-1], out=rows[1:, 1:])
    deflate = zlib.compressobj(strategy=zlib.Z_RLE)
    pixels = deflate.compress(rows.data) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)  # depth 8
    chunks = ((b"IHDR", header), *more, (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def decode(png: bytes) -> NDArray[np.uint8]:
    """Decode the class ids (H, W) uint8 of a palette PNG.

    Raises:
        ImageError: not a PNG, damaged, or without a palette, so that its values are brightness and not class ids.
    """
    return _decoded(png, "mask", "P", "a mask is a palette PNG (mode P); this one has mode {}, not class ids")


def decode_confidence(png: bytes) -> NDArray[np.uint8]:
    """Decode a confidence map (H, W) uint8: 255 times the posterior of the label in the mask, rounded.

    Raises:
        ImageError: not a PNG, damaged, or not of 8-bit grey.
    """
    return _decoded(png, "confidence map", "L", "a confidence map is an 8-bit grey PNG (mode L); this one has mode {}")


def _decoded(png: bytes, what: str, mode: str, otherwise: str) -> NDArray[np.uint8]:
    """Decode a PNG of a mode of Pillow's; `otherwise` is what is said of another."""
    try:
        with PngImageFile(io.BytesIO(png)) as image:
            if image.mode != mode:
                raise ImageError(otherwise.format(image.mode))
            return np.array(image)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them raise
        raise ImageError(f"the {what} is not a readable PNG: {type(error).__name__}: {error}") from error
