"""What refinement makes of a picture."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Labelling(NamedTuple):
    """The best label of each pixel of a picture, or of a window of it.

    Attributes:
        best: (H, W) uint8, the most probable label, the first of equals.
        posterior: (H, W) float32, its posterior.
        kept: labels that took part to the end.
    """

    best: NDArray[np.uint8]
    posterior: NDArray[np.float32]
    kept: int


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """What a picture became.

    Attributes:
        mask: (H, W) uint8, the most probable label of each pixel.
        confidence: mean over the pixels of the winning label's posterior, in [0, 1].
        pixels: (C,) int64, pixels won by each label.
        class_confidence: (C,) float32, mean posterior of a label over the pixels it won; 0 where it won none.
        kept: labels that took part in the CRF to its end, in the tile that had most; C where there was no CRF.
    """

    mask: NDArray[np.uint8]
    confidence: float
    pixels: NDArray[np.int64]
    class_confidence: NDArray[np.float32]
    kept: int
