"""How far two sets of masks are apart: by the shares of classes, and pixel by pixel where they share images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.reports.statistics import Statistics


class Confusion:
    """Counts pixels by their class in the masks A and B of the same images.

    Attributes:
        classes: names of the K classes that A or B has.
        matrix: (K, K) int64; row is A's class, column B's.
        images: compared.
    """

    def __init__(self, a: Sequence[str], b: Sequence[str]) -> None:
        """Begin with nothing counted; classes are the same where their names are."""
        self.classes = tuple(dict.fromkeys([*a, *b]))
        self._of_a, self._of_b = (np.array([self.classes.index(name) for name in names]) for names in (a, b))
        self.matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        self.images = 0

    def add(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
        """Count an image by its masks (H, W); returns the share of its pixels whose class differs."""
        count = len(self.classes)
        pairs = self._of_a[a.ravel()] * count + self._of_b[b.ravel()]
        own = np.bincount(pairs, minlength=count * count).reshape(count, count)
        self.matrix += own
        self.images += 1
        return float(1 - np.trace(own) / own.sum())

    @property
    def agreement(self) -> float | None:
        """Return the share of pixels whose class is the same; None where no image was compared."""
        total = int(self.matrix.sum())
        return float(np.trace(self.matrix) / total) if total else None

    @property
    def iou(self) -> NDArray[np.float64]:
        """Return for each class (K,) the pixels that both give it, of those that either does; NaN where none does."""
        both = np.diag(self.matrix).astype(np.float64)
        either = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - both
        iou: NDArray[np.float64] = np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)
        return iou


def shares_of(statistics: Statistics, classes: Sequence[str]) -> NDArray[np.float64]:
    """Return the shares of all pixels of `classes` (K,); 0 for one that the masks do not have."""
    by_name = dict(zip(statistics.classes, statistics.shares.tolist(), strict=True))
    return np.array([by_name.get(name, 0.0) for name in classes])


def share_drift(a: Statistics, b: Statistics, classes: Sequence[str]) -> float:
    """Return half the sum of how much the classes' shares differ: the share of pixels that have moved, 0 to 1."""
    return float(np.abs(shares_of(a, classes) - shares_of(b, classes)).sum() / 2)
