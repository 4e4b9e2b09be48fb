"""Encoding a mask as a palette PNG, and decoding it."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from pipeline.errors import ImageError


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

    Rows are coded as differences from the row above, then run lengths: on label masks as small as zlib's default
    search at a fifth of its time.

    Raises:
        ImageError: not (H, W) uint8, or empty.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8 or mask.size == 0:
        raise ImageError(f"a mask is (H, W) uint8, not {mask.shape} {mask.dtype}")
    height, width = mask.shape
    colours = pascal_palette(max(len(palette), int(mask.max()) + 1))
    colours[: len(palette)] = palette
    rows = np.empty((height, 1 + width), np.uint8)
    rows[:, 0] = 2  # PNG filter type Up
    rows[0, 1:] = mask[0]
    np.subtract(mask[1:], mask[:-1], out=rows[1:, 1:])
    deflate = zlib.compressobj(strategy=zlib.Z_RLE)
    pixels = deflate.compress(rows.data) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # depth 8, colour type 3: palette
    chunks = ((b"IHDR", header), (b"PLTE", colours.tobytes()), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def decode(png: bytes) -> NDArray[np.uint8]:
    """Decode the class ids (H, W) uint8 of a palette PNG.

    Raises:
        ImageError: not a PNG, damaged, or without a palette, so that its values are brightness and not class ids.
    """
    try:
        with PngImageFile(io.BytesIO(png)) as image:
            if image.mode != "P":
                raise ImageError(f"a mask is a palette PNG (mode P); this one has mode {image.mode}, not class ids")
            return np.array(image)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them raise
        raise ImageError(f"the mask is not a readable PNG: {type(error).__name__}: {error}") from error
