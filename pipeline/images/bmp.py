"""BMP: an alpha channel that was never filled."""

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile


def without_empty_alpha(image: BmpImageFile) -> Image.Image:
    """Drop an alpha channel that is 0 everywhere: a writer that left the fourth byte empty, shown opaque by viewers."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return image
