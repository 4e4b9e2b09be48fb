"""What refinement makes of a picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """What a picture became.

    Attributes:
        mask: (H, W) uint8, the most probable label of each pixel.
        confidence: mean over the pixels of the winning label's posterior, in [0, 1].
        pixels: (C,) int64, pixels won by each label.
        class_confidence: (C,) float32, mean posterior of a label over the pixels it won; 0 where it won none.
    """

    mask: NDArray[np.uint8]
    confidence: float
    pixels: NDArray[np.int64]
    class_confidence: NDArray[np.float32]
