"""Small pictures and masks as data: URIs, so that a page needs no other file."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline import images, masks
from pipeline.data.formats.format import Encoded
from pipeline.errors import ImageError, PipelineError

_SIDES = (640, 512, 384, 256, 160, 96)
_QUALITY = 80

Palette = Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A picture and its masks as data: URIs; `image` is empty where there is no picture, and `problem` says why."""

    image: str
    after: str
    before: str
    problem: str


def picture_of(encoded: Encoded, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode the picture (H, W, 3) uint8 that a mask of `size` was made from.

    Raises:
        PipelineError: there is none, or it is another one by now.
    """
    if isinstance(encoded, PipelineError):
        raise encoded
    picture = images.decode(encoded)
    if picture.shape[:2] != size:
        raise ImageError(f"the picture is {picture.shape[:2]}, and the mask {size}; it has changed since")
    return picture


def thumbnail(
    picture: NDArray[np.uint8] | PipelineError,
    after: tuple[NDArray[np.uint8], Palette],
    before: NDArray[np.uint8] | None,
    before_palette: Palette,
    most_bytes: int,
) -> Thumbnail:
    """Make a thumbnail as large as fits into `most_bytes` of the page, at most 640 pixels wide or high.

    Args:
        picture: (H, W, 3) uint8, or why there is none.
        after: the mask (H, W) uint8, and (R, G, B) of each of its classes.
        before: another mask (H, W) uint8, such as the network's own; None where there is none.
        before_palette: of the classes of that.
        most_bytes: of the three data: URIs.
    """
    problem = str(picture) if isinstance(picture, PipelineError) else ""
    for side in _SIDES:
        found = Thumbnail(
            image="" if isinstance(picture, PipelineError) else _webp(picture, side),
            after=_png(*after, side),
            before="" if before is None else _png(before, before_palette, side),
            problem=problem,
        )
        if len(found.image) + len(found.after) + len(found.before) <= most_bytes:
            break
    return found


def _webp(picture: NDArray[np.uint8], side: int) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY)
    return _data_uri("image/webp", buffer.getvalue())


def _png(mask: NDArray[np.uint8], palette: Palette, side: int) -> str:
    height, width = mask.shape
    scale = min(side / max(height, width), 1.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    return _data_uri("image/png", masks.encode(small, palette))


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
