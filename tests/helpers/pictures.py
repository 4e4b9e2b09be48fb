"""Small pictures for the tests."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def photo(seed: int, height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    """Make a picture with some structure, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
