"""What all rows of an output say together, counted in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.masks import FailedRow, MaskRows

BINS = 20
"""Of the histograms of confidence, over 0 .. 1."""

_KEYS_KEPT = 50


@dataclass(kw_only=True)
class Cause:
    """Failures of one kind: how many, the message of the first, and the keys of the first 50."""

    stage: str
    error: str
    message: str
    count: int = 0
    keys: list[str] = field(default_factory=list)


class Statistics:
    """Counts over the rows of C classes.

    Attributes:
        classes: names by class id.
        images: masks counted.
        pixels: (C,) int64, of each class.
        occurrences: (C,) int64, images with each class.
        histogram: (BINS,) int64, images by confidence.
        class_histogram: (C, BINS) int64, images with a class by its confidence there.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Begin with nothing counted."""
        self.classes = tuple(classes)
        self.images = 0
        self.pixels = np.zeros(len(classes), np.int64)
        self.occurrences = np.zeros(len(classes), np.int64)
        self.histogram = np.zeros(BINS, np.int64)
        self.class_histogram = np.zeros((len(classes), BINS), np.int64)
        self._confidence = 0.0
        self._class_confidence = np.zeros(len(classes))
        self._causes: dict[tuple[str, str], Cause] = {}

    def add(self, rows: MaskRows) -> None:
        """Count masks."""
        self.images += len(rows.keys)
        self.pixels += rows.pixels.sum(axis=0)
        self.occurrences += (rows.pixels > 0).sum(axis=0)
        self.histogram += _histogram(rows.confidence)
        self._confidence += float(np.nansum(rows.confidence))
        self._class_confidence += np.nansum(rows.class_confidence, axis=0)
        for index in np.flatnonzero(rows.pixels.any(axis=0)):
            self.class_histogram[index] += _histogram(rows.class_confidence[:, index])

    def add_failure(self, row: FailedRow) -> None:
        """Count an image without a mask."""
        cause = self._causes.setdefault(
            (row.stage, row.error), Cause(stage=row.stage, error=row.error, message=row.message)
        )
        cause.count += 1
        if len(cause.keys) < _KEYS_KEPT:
            cause.keys.append(row.key)

    @property
    def causes(self) -> list[Cause]:
        """Give the failures by their cause, the most frequent first."""
        return sorted(self._causes.values(), key=lambda cause: -cause.count)

    @property
    def failed(self) -> int:
        """Count the images without a mask."""
        return sum(cause.count for cause in self._causes.values())

    @property
    def shares(self) -> NDArray[np.float64]:
        """Return the share of all pixels that each class has (C,); 0 while nothing is counted."""
        shares: NDArray[np.float64] = self.pixels / max(int(self.pixels.sum()), 1)
        return shares

    @property
    def confidence(self) -> float:
        """Return the mean over the images that have a confidence; NaN where none has."""
        known = int(self.histogram.sum())
        return self._confidence / known if known else float("nan")

    @property
    def class_confidence(self) -> NDArray[np.float64]:
        """Return the mean over the images with a class (C,); NaN where no image has it, or none has a confidence."""
        known = self.class_histogram.sum(axis=1)
        mean: NDArray[np.float64] = np.divide(
            self._class_confidence, known, out=np.full(len(known), np.nan), where=known > 0
        )
        return mean


def _histogram(values: NDArray[np.float64]) -> NDArray[np.int64]:
    known = np.clip(values[~np.isnan(values)], 0, 1)
    counts: NDArray[np.int64] = np.bincount(np.minimum((known * BINS).astype(np.int64), BINS - 1), minlength=BINS)
    return counts
