"""Decoding images to RGB arrays, and the limits on what is decoded."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile

from pipeline.errors import ImageError
from pipeline.images.bmp import BmpFile, without_empty_alpha
from pipeline.images.png import PngFile, alpha_of_16_bits
from pipeline.images.tiff import TiffFile, refused_tiff

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Lower-case suffixes of the formats that decode reads. The bytes decide, not the suffix."""

DEFAULT_MAX_PIXELS = 200_000_000

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_ORIENTATION = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")  # the second as ImageMagick writes it

_DECODERS: tuple[tuple[bytes, Callable[[io.BytesIO], Image.Image]], ...] = (
    (b"\xff\xd8\xff", JpegImageFile),  # the first picture of a phone's multi-picture JPEG too
    (_PNG, PngFile),
    (b"GIF8", GifImageFile),
    (b"RIFF", WebPImageFile),
    (b"BM", BmpFile),
    (b"II*\0", TiffFile),
    (b"MM\0*", TiffFile),
    (b"II+\0", TiffFile),
    (b"MM\0+", refused_tiff),
)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation (tag 0x0112) to the operation that turns the picture upright."""

QUARTER_TURNS = (5, 6, 7, 8)
"""The orientations that swap height and width."""

_ORIENTATION_TAG = 0x0112
_BITS_PER_SAMPLE_TAG = 258
_PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 262, 0
_BAND_ROWS = 1024
_PILLOW_LIMIT = threading.Lock()


def decode(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode the first frame of a JPEG, PNG, WebP, BMP, TIFF or GIF, upright, as a person would see it.

    EXIF orientation is applied, and ignored where the EXIF block is damaged. Transparent parts are composited on white,
    whatever colour is stored below them. 16-bit samples become 8 bits, value / 257 for grey, the high byte for RGB.
    Floating-point grey must lie in [0, 1] and is scaled by 255. Colour profiles are not applied; CMYK is converted
    by (255 - ink) * (255 - black) / 255. Texts and profiles of a PNG that unpack to more than 1 MiB are passed over.
    A BMP is opaque where its alpha is 0 everywhere, and where a pixel has 16 bits.
    Damage that a decoder does not tell, as libjpeg's warnings and what is overwritten in a BMP, leaves grey or black.

    Args:
        data: the encoded image.
        max_pixels: refuse a larger width * height; read from the header, before any pixel is decoded.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous.

    Raises:
        ImageError: no image, a format or sample type outside the list above, too large, truncated or damaged, where the
            decoder tells.
    """
    try:
        image = _load(data, max_pixels)
        turn = _UPRIGHT.get(_orientation(image))
        image = _rgb(image)
        return _pixels(image if turn is None else image.transpose(turn))
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them raise
        raise ImageError(f"the image cannot be decoded: {type(error).__name__}: {error}") from error


def orientation(data: bytes) -> int:
    """Read the EXIF orientation, 1 to 8, that decode applies; 1, upright, where there is none or it cannot be read."""
    if data.startswith(_PNG) and not any(mark in data for mark in _PNG_ORIENTATION):
        return 1  # Pillow would decode all pixels to look behind them
    try:
        found = _orientation(_header(data))
    except MemoryError:
        raise
    except Exception:  # as in decode, which says what is wrong
        return 1
    return found if found in _UPRIGHT else 1


def upright(mask: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn a mask (H, W) that is drawn on a picture as it is stored, as decode turns a picture of that orientation."""
    turn = _UPRIGHT.get(orientation)
    return mask if turn is None else np.array(Image.fromarray(mask).transpose(turn))


def max_encoded_bytes(max_pixels: int) -> int:
    """Return the bytes that no file of `max_pixels` exceeds: four raw 16-bit samples a pixel, and some more."""
    return 8 * max_pixels + 64 * 1024 * 1024


def header_size(data: bytes) -> tuple[int, int]:
    """Read width and height from the header, without decoding a pixel; (0, 0) where no header can be read."""
    try:
        width, height = _header(data).size
    except MemoryError:
        raise
    except Exception:  # as in decode, which says what is wrong
        return 0, 0
    return width, height


def header_pixels(data: bytes) -> int:
    """Read width * height from the header, as `header_size` does."""
    width, height = header_size(data)
    return width * height


def _header(data: bytes) -> Image.Image:
    """Open an image without decoding its pixels. Not by Image.open, which would try every other format too."""
    if not data:
        raise ImageError("the image is empty (0 bytes)")
    decoder = next((decoder for magic, decoder in _DECODERS if data.startswith(magic)), None)
    if decoder is None:
        raise ImageError(f"not a JPEG, PNG, WebP, BMP, TIFF or GIF: the data begins with {bytes(data[:8])!r}")
    with _pillow_limit_lifted():
        return decoder(io.BytesIO(data))


def _load(data: bytes, max_pixels: int) -> Image.Image:
    """Decode the first frame, in the file's own mode."""
    image = _header(data)
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(f"the image has {width}x{height} = {width * height} pixels; the limit is {max_pixels}")
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        with _pillow_limit_lifted():
            image.load()
    else:
        image.load()
    return image


@contextmanager
def _pillow_limit_lifted() -> Iterator[None]:
    """Lift the limit that Pillow keeps for the whole process, which is below ours; it is put back at once."""
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation; 1, upright, where there is none or the block cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a damaged EXIF block raises nearly anything, and the picture itself is good
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    """Convert to mode RGB: greys scaled to 8 bits, transparency composited on white."""
    alpha = alpha_of_16_bits(image) if isinstance(image, PngFile) else None
    if isinstance(image, BmpFile):
        image = without_empty_alpha(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _grey_to_8_bits(image)
    elif image.mode == "La":  # grey with premultiplied alpha
        image = image.convert("LA")
    if alpha is not None:
        image.putalpha(alpha)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image, mask=image.getchannel("A"))
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale grey of more than 8 bits or floating point to mode L: Pillow's own conversion clips instead."""
    grey = np.asarray(image)
    tags = image.tag_v2 if isinstance(image, TiffFile) else {}
    white = 1.0 if image.mode == "F" else 4095.0 if tags.get(_BITS_PER_SAMPLE_TAG) == (12,) else 65535.0
    low, high = float(grey.min()), float(grey.max())
    if not (low >= 0 and high <= white):
        raise ImageError(
            f"grey values from {low:g} to {high:g} have no known white; store 8 or 16 bits, or floats in [0, 1]"
        )
    scaled = np.empty(grey.shape, np.uint8)
    for top in range(0, len(grey), _BAND_ROWS):
        band = grey[top : top + _BAND_ROWS].astype(np.float32)
        if tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
            band = white - band
        scaled[top : top + _BAND_ROWS] = band * (255 / white) + 0.5
    return Image.fromarray(scaled)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Copy an RGB image to (H, W, 3) uint8, a band of rows at a time: Pillow's copy needs three times the memory."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels
