"""PNG: what Pillow's reader leaves out of a transparent colour, and metadata larger than it accepts."""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import MAX_TEXT_CHUNK, MAX_TEXT_MEMORY, PngImageFile

_GREY, _RGB = 0, 2  # colour types of the header
_BAND_ROWS = 1024


class PngFile(PngImageFile):
    """A PNG without the metadata that Pillow would fail over, and with the transparent colour in Pillow's own scale."""

    def _open(self) -> None:
        assert isinstance(self.fp, io.BytesIO)
        self.encoded = _without_large_metadata(self.fp.getvalue())
        self.fp = io.BytesIO(self.encoded)
        super()._open()
        self.depth, self.colour_type = self.encoded[24:26]
        if self.colour_type == _GREY and self.depth in (2, 4) and "transparency" in self.info:
            white = 2**self.depth - 1  # Pillow scales the samples to 8 bits, and leaves the colour as it is
            self.info["transparency"] = (self.info["transparency"] & white) * (255 // white)


def alpha_of_16_bits(image: PngFile) -> Image.Image | None:
    """Make the alpha channel, mode L, of a 16-bit picture with a transparent colour; None for every other picture.

    All 16 bits of a sample count (PNG specification, tRNS), and Pillow keeps the high byte of RGB alone: the low bytes
    are decoded once more.
    """
    colour = image.info.get("transparency")
    if colour is None or image.depth != 16 or image.colour_type not in (_GREY, _RGB):
        return None
    if image.colour_type == _GREY:
        return Image.fromarray(_opaque(image, np.array(colour)))
    high, low = np.divmod(np.array(colour), 256)
    return Image.fromarray(_opaque(image, high) | _opaque(_low_bytes(image), low))


def _low_bytes(image: PngFile) -> Image.Image:
    """Decode the low byte of each sample of a 16-bit RGB picture: the high one, were it little-endian."""
    low = PngFile(io.BytesIO(image.encoded))
    low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
    low.load()
    return low


def _opaque(image: Image.Image, colour: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Make (H, W) alpha: 0 where a pixel has the colour, else 255; a band of rows at a time, for the memory's sake."""
    width, height = image.size
    alpha = np.empty((height, width), np.uint8)
    for top in range(0, height, _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, height)
        differs = np.asarray(image.crop((0, top, width, bottom))) != colour
        alpha[top:bottom] = (differs.any(axis=2) if differs.ndim == 3 else differs) * np.uint8(255)
    return alpha


def _without_large_metadata(data: bytes) -> bytes:
    """Leave out texts and colour profiles beyond Pillow's limits: it refuses the whole picture for them.

    The limits stay: 1 MiB for what is unpacked of one chunk, 64 MiB for all texts.
    """
    kept, start, position, unpacked = [], 0, 8, 0
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP") and end <= len(data):
            compressed, size = False, length
            if unpacked <= MAX_TEXT_MEMORY:
                compressed, size = _unpacked_size(kind, data[position + 8 : end - 4])
            unpacked += size
            if unpacked > MAX_TEXT_MEMORY or (compressed and size > MAX_TEXT_CHUNK):
                kept.append(data[start:position])
                start = end
        position = end
    return b"".join((*kept, data[start:])) if kept else data


def _unpacked_size(kind: bytes, chunk: bytes) -> tuple[bool, int]:
    """Tell whether a chunk is compressed, and how many bytes it unpacks to, counted until just above the limit."""
    _, _, rest = chunk.partition(b"\0")
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
        return False, len(chunk)
    packed = rest[2:].split(b"\0", 2)[-1] if kind == b"iTXt" else rest[1:]
    try:
        return True, len(zlib.decompressobj().decompress(packed, MAX_TEXT_CHUNK + 1))
    except zlib.error:  # Pillow passes over it
        return True, 0
