"""The trimap curve: mean IoU near the borders, in bands of growing width (arXiv 1606.00915)."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.strips import strips
from pipeline.labels import IGNORE

Band = Literal["void", "borders"]
"""Where the bands begin: at the void pixels of the truth, or at the borders between differently labelled pixels."""

WIDTHS = 40
"""Width of the widest band, in pixels; the narrowest is 1."""

Mask = NDArray[np.uint8]


def narrowest(truth: Mask, band: Band) -> NDArray[np.uint8]:
    """Give the width w, 1 .. WIDTHS, of the narrowest band that holds each pixel of `truth` (H, W), or WIDTHS + 1.

    Grown from void pixels, band w is what dilating them with a square of (2w + 1)^2 reaches, less the void pixels
    themselves, which get 0. Grown from borders, band 1 is the labelled pixels that have one of another class above,
    below, left or right, and each further width dilates it with a square of 3^2: w pixels on either side.
    """
    reached = truth == IGNORE if band == "void" else _beside_another_class(truth)
    first = 0 if band == "void" else 1
    width = np.where(reached, np.uint8(first), np.uint8(WIDTHS + 1))
    for w in range(first + 1, WIDTHS + 1):
        grown = _dilated(reached)
        width[grown & ~reached] = w
        reached = grown
    return width


def _beside_another_class(truth: Mask) -> NDArray[np.bool_]:
    beside = np.zeros(truth.shape, bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        border = (truth[one] != truth[other]) & (truth[one] != IGNORE) & (truth[other] != IGNORE)
        beside[one] |= border
        beside[other] |= border
    return beside


def _dilated(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add to `area` (H, W) all pixels that touch it, also by a corner."""
    wide = area.copy()
    wide[:, 1:] |= area[:, :-1]
    wide[:, :-1] |= area[:, 1:]
    square = wide.copy()
    square[1:] |= wide[:-1]
    square[:-1] |= wide[1:]
    return square


class TrimapCurve:
    """Counts the pixels of each class in each band, for its IoU there, pooled over pictures."""

    def __init__(self, classes: int, band: Band) -> None:
        """Begin with nothing counted, for labels 0 .. classes - 1."""
        self.classes, self.band = classes, band
        self.counts = np.zeros((3, WIDTHS, classes), np.int64)
        """Pixels by what they are (right; of that true class; of that predicted class), narrowest band, and class."""

    def update(self, truth: Mask, prediction: Mask) -> None:
        """Count one picture: `truth` (H, W) uint8, where 255 is not counted, and `prediction` (H, W) uint8."""
        for rows, core in strips(truth.shape, WIDTHS):
            width = narrowest(truth[rows], self.band)[core]
            self._count(truth[rows][core], prediction[rows][core], width)

    def _count(self, truth: Mask, prediction: Mask, width: NDArray[np.uint8]) -> None:
        counted = (truth != IGNORE) & (width <= WIDTHS)
        row = (width[counted].astype(np.int64) - 1) * self.classes
        true, predicted = truth[counted], prediction[counted]
        right = true == predicted
        for counts, places in zip(self.counts, ((row + true)[right], row + true, row + predicted), strict=True):
            counts += np.bincount(places, minlength=counts.size).reshape(counts.shape)

    def add(self, counts: NDArray[np.int64]) -> None:
        """Add the counts (3, WIDTHS, C) of another curve of the same classes."""
        self.counts += counts

    @property
    def mean_iou(self) -> NDArray[np.float64]:
        """Average the IoU of the classes that occur in a band, (WIDTHS,) in 0..1; NaN for an empty band."""
        right, true, predicted = self.counts.cumsum(axis=1)
        union = true + predicted - right
        occurs = union > 0
        iou = np.where(occurs, right / np.maximum(union, 1), 0.0)
        classes = occurs.sum(axis=1)
        mean: NDArray[np.float64] = np.where(classes > 0, iou.sum(axis=1) / np.maximum(classes, 1), np.nan)
        return mean
