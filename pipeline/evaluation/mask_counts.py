"""The counts of one kind of mask, and the row in which they travel."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.evaluation.trimap import Band, TrimapCurve
from pipeline.metrics import SegmentationScore

COUNTED = pa.schema(
    [
        ("masks", pa.string()),  # network or refined
        ("pictures", pa.int64()),
        ("matrix", pa.list_(pa.int64())),  # (C, C)
        ("trimap", pa.list_(pa.int64())),  # (3, WIDTHS, C)
        ("failed", pa.list_(pa.string())),  # pictures without a mask, and why
    ]
)
"""One row for each kind of mask and batch of pictures, on its way to the driver."""


@dataclass(frozen=True, kw_only=True)
class Counting:
    """Says how pictures are counted: `classes` labels, and where the trimap's bands begin."""

    classes: int
    band: Band


class MaskCounts:
    """Pools the confusion matrix and the trimap curve of one kind of mask over pictures."""

    def __init__(self, how: Counting) -> None:
        """Begin with nothing counted."""
        self.score = SegmentationScore(how.classes)
        self.trimap = TrimapCurve(how.classes, how.band)
        self.pictures = 0
        self.failed: list[str] = []

    def update(self, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> None:
        """Count one picture: (H, W) uint8 labels each; 255 in the truth is not counted. Raises ConfigError."""
        self.score.update(truth, prediction)
        self.trimap.update(truth, prediction)
        self.pictures += 1

    def to_row(self, masks: str) -> dict[str, Any]:
        """Give the counts as a row of COUNTED."""
        return {
            "masks": masks,
            "pictures": self.pictures,
            "matrix": self.score.matrix.ravel(),
            "trimap": self.trimap.counts.ravel(),
            "failed": self.failed,
        }

    def add_row(self, row: dict[str, Any]) -> None:
        """Add the row of other counts of the same kind of mask."""
        self.score.add(np.array(row["matrix"], np.int64).reshape(self.score.matrix.shape))
        self.trimap.add(np.array(row["trimap"], np.int64).reshape(self.trimap.counts.shape))
        self.pictures += row["pictures"]
        self.failed += row["failed"]
