"""What a format of exports is given of each image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.formats.format import Encoded


@dataclass(frozen=True, kw_only=True)
class ExportedImage:
    """An image with its mask.

    Attributes:
        number: of the image in the export, from 0.
        key: as in masks/.
        source: URI of what it came from, redacted; empty where that is not known.
        mask: (H, W) uint8 class ids.
        png: the mask as it is stored, a palette PNG.
        confidence: of the image; NaN where it is not known.
        classes: confidence by class id, of the classes that occur and were asked for.
        picture: the encoded picture, for formats that ask for pictures; or why there is none.
    """

    number: int
    key: str
    source: str
    mask: NDArray[np.uint8]
    png: bytes
    confidence: float
    classes: Mapping[int, float]
    picture: Encoded | None = None
