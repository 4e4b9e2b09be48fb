"""The border F-measure: whether borders lie where the truth has them (DAVIS; Perazzi et al. 2016)."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.labels import IGNORE

TOLERANCE = 0.008
"""How far a border may lie from the true one, as a share of the picture's diagonal, rounded up to whole pixels."""

_BITS = 64

Mask = NDArray[np.uint8]
Bits = NDArray[np.uint64]
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
    void = truth == IGNORE
    shown = np.zeros(IGNORE + 1, bool)
    shown[truth], shown[prediction[~void]], shown[IGNORE] = True, True, False
    radius = math.ceil(TOLERANCE * math.hypot(*truth.shape))
    measure = np.full(classes, np.nan)
    everything = np.flatnonzero(shown[:classes]).tolist()
    for labels in (everything[start : start + _BITS] for start in range(0, len(everything), _BITS)):
        right, mine = (_borders(mask, void, labels) for mask in (truth, prediction))
        precision = _shares(mine, _near(right, radius), len(labels))
        recall = _shares(right, _near(mine, radius), len(labels))
        for label, share, other in zip(labels, precision, recall, strict=True):
            measure[label] = _harmonic_mean(share, other)
    return measure


def _borders(mask: Mask, void: NDArray[np.bool_], labels: Sequence[int]) -> Bits:
    """Mark the pixels whose right, lower or lower right neighbour is on the other side of a label's border."""
    bit_of = np.zeros(IGNORE + 1, np.uint64)
    bit_of[list(labels)] = np.uint64(1) << np.arange(len(labels), dtype=np.uint64)
    bits = bit_of[mask]
    borders = np.zeros_like(bits)
    for here, there in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]),
    ):
        counted = ~(void[here] | void[there])
        borders[here] |= np.where(counted, bits[here] ^ bits[there], np.uint64(0))
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


def _shares(marked: Bits, area: Bits, labels: int) -> list[float]:
    """Give the share of each label's marked pixels that lie in its area; NaN where none is marked."""
    places = marked != 0
    marks, inside = marked[places], (marked & area)[places]
    shares = []
    for label in range(labels):
        bit = np.uint64(1) << np.uint64(label)
        total = np.count_nonzero(marks & bit)
        shares.append(np.count_nonzero(inside & bit) / total if total else math.nan)
    return shares


def _harmonic_mean(precision: float, recall: float) -> float:
    """Give F: 1 where there is neither border, 0 where there is only one, or none of one is near the other."""
    if math.isnan(precision) or math.isnan(recall):
        return float(math.isnan(precision) and math.isnan(recall))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
