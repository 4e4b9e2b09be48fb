"""BMP: palettes that Pillow's reader takes for another depth, and an alpha channel that was never filled."""

import struct

from PIL import Image, ImagePalette
from PIL.BmpImagePlugin import BmpImageFile

_CORE_HEADER = 12  # bytes of the oldest header, which has fields of its own
_RAW_MODES = {4: "P;4", 8: "P"}  # bits of a pixel


class BmpFile(BmpImageFile):
    """A BMP of 4 or 8 bits a pixel, read as such where its palette is black and white, or 16 dark greys.

    Pillow drops such a palette and takes the pixels for 1 or 8 bits each.
    """

    def _open(self) -> None:
        super()._open()
        assert self.fp is not None
        self.fp.seek(14)
        header = self.fp.read(16)
        (bits,) = struct.unpack_from("<H", header, 10 if header[:4] == struct.pack("<I", _CORE_HEADER) else 14)
        if bits in _RAW_MODES and (self.mode == "1" or (self.mode == "L" and bits < 8)):
            greys = (0, 255) if self.mode == "1" else range(2**bits)
            self._mode = "P"
            self.palette = ImagePalette.raw("RGB", bytes(grey for grey in greys for _ in range(3)))
            self.tile = [tile._replace(args=(_RAW_MODES[bits], *(tile.args or ())[1:])) for tile in self.tile]


def without_empty_alpha(image: Image.Image) -> Image.Image:
    """Drop an alpha channel that is 0 everywhere: a writer that left the fourth byte empty, shown opaque by viewers."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return image
