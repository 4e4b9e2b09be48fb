"""The masks that refinement makes, of a window and of a whole picture."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.logits import best_label


class Labelling(NamedTuple):
    """Hold the best label of each pixel of a picture, or of a window of it.

    Attributes:
        best: (H, W) uint8, the most probable label, the first of equals.
        posterior: (H, W) float32, its posterior.
        kept: labels that took part to the end.
    """

    best: NDArray[np.uint8]
    posterior: NDArray[np.float32]
    kept: int

    @classmethod
    def of(cls, posterior: NDArray[np.float32]) -> "Labelling":
        """Take the best labels of a posterior (C, H, W); labels that are 0 everywhere took no part."""
        best, winning = best_label(posterior)
        return cls(best, winning, kept=int(posterior.any(axis=(1, 2)).sum()))


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """Hold the mask of a picture, and how sure it is.

    Attributes:
        mask: (H, W) uint8, the most probable label of each pixel.
        posterior: (H, W) uint8, 255 times the posterior of that label, rounded.
        confidence: mean over the pixels of the winning label's posterior, in [0, 1].
        pixels: (C,) int64, pixels won by each label.
        class_confidence: (C,) float32, mean posterior of a label over the pixels it won; 0 where it won none.
        kept: labels that took part to the end, in the tile that had most; C where none is ever left out.
    """

    mask: NDArray[np.uint8]
    posterior: NDArray[np.uint8]
    confidence: float
    pixels: NDArray[np.int64]
    class_confidence: NDArray[np.float32]
    kept: int
