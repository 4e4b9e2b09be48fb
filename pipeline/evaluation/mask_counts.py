"""The counts of one kind of mask, and the row in which they travel."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.evaluation.border import border_f_measure
from pipeline.evaluation.trimap import Band, TrimapCurve
from pipeline.metrics import SegmentationScore

COUNTED = pa.schema(
    [
        ("masks", pa.string()),  # network or refined
        ("matrix", pa.list_(pa.int64())),  # (C, C)
        ("trimap", pa.list_(pa.int64())),  # (3, WIDTHS, C)
        ("border", pa.list_(pa.float64())),  # (2, C): sums of the border F-measure, and over how many pictures
        ("keys", pa.list_(pa.string())),  # of the pictures
        ("iou", pa.list_(pa.float64())),  # mean IoU of each picture
        ("border_f", pa.list_(pa.float64())),  # mean border F-measure of each picture
        ("failed", pa.list_(pa.string())),  # pictures without a mask, and why
    ]
)
"""One row for each kind of mask and batch of pictures, on its way to the driver."""


@dataclass(frozen=True, kw_only=True)
class Counting:
    """Says how pictures are counted: `classes` labels, and where the trimap's bands begin."""

    classes: int
    band: Band


@dataclass(frozen=True, kw_only=True)
class PictureScores:
    """The scores of one picture's mask, in 0..1, each the mean over its classes; NaN where nothing is counted."""

    iou: float
    border_f: float


class MaskCounts:
    """Pools what is counted of one kind of mask over pictures, and keeps each picture's own scores."""

    def __init__(self, how: Counting) -> None:
        """Begin with nothing counted."""
        self.score = SegmentationScore(how.classes)
        self.trimap = TrimapCurve(how.classes, how.band)
        self.border = np.zeros((2, how.classes))
        """Sums of the border F-measure by class, and over how many pictures (C,) each."""
        self.pictures: dict[str, PictureScores] = {}
        self.failed: list[str] = []

    def update(self, key: str, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> None:
        """Count one picture: (H, W) uint8 labels each; 255 in the truth is not counted. Raises ConfigError."""
        own = SegmentationScore(self.score.classes)
        own.update(truth, prediction)
        self.score.add(own.matrix)
        self.trimap.update(truth, prediction)
        border = border_f_measure(truth, prediction, self.score.classes)
        occurs = ~np.isnan(border)
        self.border += np.where(occurs, border, 0), occurs
        mean = float(border[occurs].mean()) if occurs.any() else math.nan
        self.pictures[key] = PictureScores(iou=own.mean_iou, border_f=mean)

    @property
    def border_f(self) -> NDArray[np.float64]:
        """Give the border F-measure of each class (C,), in 0..1, mean over the pictures; NaN where it is in none."""
        total, pictures = self.border
        mean: NDArray[np.float64] = np.where(pictures > 0, total / np.maximum(pictures, 1), np.nan)
        return mean

    def to_row(self, masks: str) -> dict[str, Any]:
        """Give the counts as a row of COUNTED."""
        return {
            "masks": masks,
            "matrix": self.score.matrix.ravel(),
            "trimap": self.trimap.counts.ravel(),
            "border": self.border.ravel(),
            "keys": list(self.pictures),
            "iou": [scores.iou for scores in self.pictures.values()],
            "border_f": [scores.border_f for scores in self.pictures.values()],
            "failed": self.failed,
        }

    def add_row(self, row: dict[str, Any]) -> None:
        """Add the row of other counts of the same kind of mask."""
        self.score.add(np.array(row["matrix"], np.int64).reshape(self.score.matrix.shape))
        self.trimap.add(np.array(row["trimap"], np.int64).reshape(self.trimap.counts.shape))
        self.border += np.array(row["border"]).reshape(self.border.shape)
        for key, iou, border_f in zip(row["keys"], row["iou"], row["border_f"], strict=True):
            self.pictures[key] = PictureScores(iou=iou, border_f=border_f)
        self.failed += row["failed"]
