"""The columns that a refined picture has in the output."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline import masks
from pipeline.data.rows import Row
from pipeline.refine import Refinement


class MaskColumns:
    """Makes the columns of FINISHED that a Refinement gives."""

    def __init__(self, classes: Sequence[str], palette: NDArray[np.uint8], confidence_map: bool = False) -> None:
        """Take what names and colours the masks: `palette` is (classes, 3) uint8 RGB; and whether to map confidence."""
        self._classes, self._palette, self._confidence_map = classes, palette, confidence_map

    def of(self, refinement: Refinement) -> Row:
        """Encode a mask, and describe it."""
        (height, width), pixels = refinement.mask.shape, refinement.pixels
        classes = [
            {"id": i, "name": name, "pixels": int(pixels[i]), "confidence": float(refinement.class_confidence[i])}
            for i, name in enumerate(self._classes)
            if pixels[i]
        ]
        return {
            "height": height,
            "width": width,
            "mask": _image(masks.encode(refinement.mask, self._palette)),
            "confidence": refinement.confidence,
            "classes": classes,
            "confidence_map": _image(masks.encode_confidence(refinement.posterior)) if self._confidence_map else None,
        }


def _image(png: bytes) -> dict[str, bytes | None]:
    return {"bytes": png, "path": None}
