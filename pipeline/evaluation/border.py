"""The border F-measure: whether borders lie where the truth has them (DAVIS; Perazzi et al. 2016)."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.strips import strips
from pipeline.labels import IGNORE

TOLERANCE = 0.008
"""How far a border may lie from the true one, as a share of the picture's diagonal, rounded up to whole pixels."""

_BITS = 64

Mask = NDArray[np.uint8]
Bits = NDArray[np.unsignedinteger]
"""A picture (H, W) with a bit for each label, of 64 at most."""


def border_f_measure(truth: Mask, prediction: Mask, classes: int) -> NDArray[np.float64]:
    """Compute the F-measure of each class's border in one picture.

    Precision is the share of the predicted border's pixels that have a pixel of the true border within the tolerance,
    recall the share of the true border's that have one of the predicted; F is their harmonic mean. A border towards
    void pixels counts on neither side.

    Args:
        truth: (H, W) uint8 labels, 255 for void.
        prediction: (H, W) uint8 labels.
        classes: how many labels there are.

    Returns:
        (C,) in 0..1: 1 where neither has a border, 0 where only one has, NaN for a class that neither picture shows.
    """
    shown, counts = np.zeros(classes, bool), np.zeros((2, 2, classes), np.int64)
    radius = math.ceil(TOLERANCE * math.hypot(*truth.shape))
    for rows, core in strips(truth.shape, radius + 1):  # a pixel's neighbour below tells whether it is of a border
        true, predicted = truth[rows], prediction[rows]
        there = _labels(true, predicted, classes)
        shown[there] = True
        for labels in (there[start : start + _BITS] for start in range(0, len(there), _BITS)):
            counts[:, :, labels] += _counted(true, predicted, labels, radius, core)
    measure = np.full(classes, np.nan)
    for label in np.flatnonzero(shown):
        measure[label] = _harmonic_mean(*(near / total if total else math.nan for total, near in counts[:, :, label]))
    return measure


def _labels(truth: Mask, prediction: Mask, classes: int) -> list[int]:
    """List the labels that either mask shows where the truth is not void."""
    shown = np.zeros(IGNORE + 1, bool)
    shown[truth], shown[prediction[truth != IGNORE]], shown[IGNORE] = True, True, False
    labels: list[int] = np.flatnonzero(shown[:classes]).tolist()
    return labels


def _counted(truth: Mask, prediction: Mask, labels: Sequence[int], radius: int, core: slice) -> NDArray[np.int64]:
    """Count the pixels of borders in the rows `core`: of the prediction and of the truth, all, and near the other's."""
    void = truth == IGNORE
    mine, right = (_borders(mask, void, labels) for mask in (prediction, truth))
    sides = (mine, _near(right, radius)), (right, _near(mine, radius))
    return np.array([_pixels(marked[core], area[core], len(labels)) for marked, area in sides])


def _borders(mask: Mask, void: NDArray[np.bool_], labels: Sequence[int]) -> Bits:
    """Mark the pixels whose right, lower or lower right neighbour is on the other side of a label's border."""
    kind = np.min_scalar_type(2 ** len(labels) - 1)
    bit_of = np.zeros(IGNORE + 1, kind)
    bit_of[list(labels)] = [1 << place for place in range(len(labels))]
    bits = bit_of[mask]
    borders = np.zeros_like(bits)
    for here, there in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]),
    ):
        counted = ~(void[here] | void[there])
        borders[here] |= np.where(counted, bits[here] ^ bits[there], kind.type(0))
    return borders


def _near(borders: Bits, radius: int) -> Bits:
    """Mark the pixels within a disk of `radius` pixels of a marked one: row by row of the disk, the widest last."""
    area = np.zeros_like(borders)
    row, width = borders.copy(), 0  # widened by `width` to either side
    for distance in range(min(radius, len(row) - 1), -1, -1):
        half = math.isqrt(radius**2 - distance**2)
        for step in range(width + 1, half + 1):
            row[:, step:] |= borders[:, :-step]
            row[:, :-step] |= borders[:, step:]
        width = half
        area[distance:] |= row[: len(row) - distance]
        area[: len(area) - distance] |= row[distance:]
    return area


def _pixels(marked: Bits, area: Bits, labels: int) -> list[list[int]]:
    """Count each label's marked pixels, and those that lie in its area: (2, labels)."""
    places = marked != 0
    marks = marked[places]
    inside = marks & area[places]
    bit = [marks.dtype.type(1 << label) for label in range(labels)]
    return [[int(np.count_nonzero(bits & one)) for one in bit] for bits in (marks, inside)]


def _harmonic_mean(precision: float, recall: float) -> float:
    """Give F: 1 where there is neither border, 0 where there is only one, or none of one is near the other."""
    if math.isnan(precision) or math.isnan(recall):
        return float(math.isnan(precision) and math.isnan(recall))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
