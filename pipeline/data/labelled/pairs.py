"""A picture and its index mask: fetching the two, decoding them, and what can be wrong with them."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from pipeline import images
from pipeline.data.formats.format import Encoded, Location, Pair, fetch_locations
from pipeline.data.labelled.sense import DrawnOn
from pipeline.errors import ImageError, PipelineError
from pipeline.labels import IGNORE, Labels

Pixels = NDArray[np.uint8]

PAIR_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("image", pa.binary()),
        ("mask", pa.binary()),
        ("pixels", pa.list_(pa.int64())),
        ("drawn_on", pa.string()),
        ("problem", pa.string()),
    ]
)
"""A pair once it is fetched: `pixels` of each class, or `problem`, what is wrong with it; the other is null.

`drawn_on` is which way up the mask is, a DrawnOn, where EXIF turns the picture; null where it does not.
"""

_GREY_STEPS = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies the values of a grey PNG of 2 or 4 bits by, so that white is 255."""


def fetch(pairs: Sequence[Pair], labels: Labels) -> pa.Table:
    """Fetch and check pairs: a table of PAIR_SCHEMA, a row for each pair, in their order.

    Raises:
        StorageError: the storage itself does not answer. A single object that is gone or denied is a problem, and so is
            a damaged part of a shard for those whose bytes it holds.
    """
    good = [pair for pair in pairs if not pair.problem]
    encoded = fetch_locations(filter(None, (at for pair in good for at in (pair.image, pair.mask))))
    return pa.Table.from_pylist([_row(pair, encoded, labels) for pair in pairs], PAIR_SCHEMA)


def _row(pair: Pair, encoded: Mapping[Location, Encoded], labels: Labels) -> dict[str, Any]:
    if pair.problem or pair.image is None:
        return {"key": pair.key, "problem": pair.problem or "there is no picture for this mask"}
    image = encoded[pair.image]
    if isinstance(image, PipelineError):
        return {"key": pair.key, "problem": str(image)}
    if pair.mask is None:
        return {"key": pair.key, "problem": "there is no mask for this picture"}
    mask = encoded[pair.mask]
    if isinstance(mask, PipelineError):
        return {"key": pair.key, "problem": f"the mask: {mask}"}
    try:
        _, ids, drawn_on = _decode(image, mask, labels)
    except ImageError as error:
        return {"key": pair.key, "problem": str(error)}
    pixels = np.bincount(ids.ravel(), minlength=IGNORE + 1)[: len(labels.classes)]
    return {"key": pair.key, "image": image, "mask": mask, "pixels": pixels.tolist(), "drawn_on": drawn_on}


def decode(image: bytes, mask: bytes, labels: Labels) -> tuple[Pixels, Pixels]:
    """Decode a picture, (H, W, 3) uint8 RGB, and its mask, (H, W) uint8 with 255 for what is not counted.

    Both are upright. Where EXIF turns the picture by a quarter, a mask of the stored picture's size is turned with it.

    Raises:
        ImageError: either cannot be decoded, their sizes differ, or the mask holds a value that is no class.
    """
    return _decode(image, mask, labels)[:2]


def _decode(image: bytes, mask: bytes, labels: Labels) -> tuple[Pixels, Pixels, DrawnOn | None]:
    pixels, stored = images.decode(image), decode_mask(mask)
    ids, drawn_on = _upright(stored, pixels.shape[:2], images.orientation(image))
    ids[ids == labels.void] = IGNORE
    present = np.flatnonzero(np.bincount(ids.ravel()))
    unknown = present[(present >= len(labels.classes)) & (present != IGNORE)]
    if unknown.size:
        raise ImageError(
            f"the mask holds the class id {unknown[0]}; there are {len(labels.classes)} classes, "
            f"0 to {len(labels.classes) - 1}, and {IGNORE} is for pixels that are not counted"
        )
    return pixels, ids, drawn_on


def _upright(stored: Pixels, size: tuple[int, ...], orientation: int) -> tuple[Pixels, DrawnOn | None]:
    """Turn a mask (h, w) the way up of its picture, whose upright `size` is (H, W). Raises ImageError."""
    quarter_turn = orientation in images.QUARTER_TURNS and size[0] != size[1]
    if stored.shape == size:
        return stored, None if orientation == 1 else "upright" if quarter_turn else "either"
    if quarter_turn and stored.shape == size[::-1]:
        return images.upright(stored, orientation), "stored"
    (height, width), (rows, columns) = size, stored.shape
    turned = f", as its EXIF orientation {orientation} turns it," if quarter_turn else ""
    raise ImageError(
        f"the picture is {width}x{height} pixels{turned} and its mask {columns}x{rows}; give both one size"
    )


def decode_mask(png: bytes) -> Pixels:
    """Decode the values (H, W) uint8, as they are stored, of a PNG of up to 8 bits, palette or grey.

    Raises:
        ImageError: anything else.
    """
    try:
        with PngImageFile(io.BytesIO(png)) as image:
            if image.mode not in ("1", "P", "L"):
                raise ImageError(
                    f"a mask is a PNG of class ids of up to 8 bits, palette or grey; this one has the mode {image.mode}"
                )
            stretched = _GREY_STEPS.get(str(image.tile[0].args), 1)
            return np.array(image, np.uint8) // np.uint8(stretched)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them raise
        raise ImageError(f"the mask is not a readable PNG: {type(error).__name__}: {error}") from error
