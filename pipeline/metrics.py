"""Scores of a segmentation against the truth, from one confusion matrix pooled over all pixels of all pictures."""

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.labels import IGNORE

_AT_ONCE = 2**20
"""Pixels that are counted at once, so that what counting takes does not grow with the picture."""


class SegmentationScore:
    """A confusion matrix that grows picture by picture, and the scores of the PASCAL VOC challenge from it."""

    def __init__(self, classes: int) -> None:
        """Begin with an empty matrix for labels 0 .. classes - 1. Raises ConfigError below two classes."""
        if classes < 2:
            raise ConfigError(f"a segmentation is scored on two classes or more, not {classes}")
        self.classes = classes
        self._matrix = np.zeros((classes, classes), np.int64)

    def update(self, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> None:
        """Count one picture.

        Args:
            truth: (H, W) uint8 labels; 255 is not counted.
            prediction: (H, W) uint8 labels.

        Raises:
            ConfigError: the shapes differ, or there is a label that is not a class.
        """
        if truth.shape != prediction.shape:
            raise ConfigError(f"truth is {truth.shape} and prediction {prediction.shape}; they must be of one size")
        matrix, flat = np.zeros_like(self._matrix), (truth.ravel(), prediction.ravel())
        for start in range(0, truth.size, _AT_ONCE):
            true, predicted = (labels[start : start + _AT_ONCE] for labels in flat)
            counted = true != IGNORE
            for name, labels in (("truth", true[counted]), ("prediction", predicted)):
                if labels.size and labels.max() >= self.classes:
                    raise ConfigError(f"{name} holds the label {labels.max()}; there are {self.classes} classes")
            pairs = true[counted].astype(np.intp) * self.classes + predicted[counted]
            matrix += np.bincount(pairs, minlength=self.classes**2).reshape(matrix.shape)
        self._matrix += matrix

    def add(self, matrix: NDArray[np.int64]) -> None:
        """Add the matrix (C, C) of another score of the same classes."""
        self._matrix += matrix

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Return the pixels (C, C) int64: row is the truth, column the prediction."""
        return self._matrix

    @property
    def iou(self) -> NDArray[np.float64]:
        """Return the intersection over union of each class (C,), in 0..1; NaN for a class that does not occur."""
        hits = np.diag(self.matrix).astype(np.float64)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hits
        iou: NDArray[np.float64] = np.divide(hits, union, out=np.full(self.classes, np.nan), where=union > 0)
        return iou

    @property
    def mean_iou(self) -> float:
        """Return the mean of the classes' IoU, in 0..1, over the classes that occur; NaN while nothing is counted."""
        occurring = self.iou[~np.isnan(self.iou)]
        return float(occurring.mean()) if occurring.size else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """Return the share of the counted pixels that are right, in 0..1; NaN while nothing is counted."""
        total = self.matrix.sum()
        return float(np.diag(self.matrix).sum() / total) if total else float("nan")
