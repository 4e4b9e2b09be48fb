"""The trimap curve against a brute force that dilates pixel by pixel."""

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from pipeline.evaluation.trimap import WIDTHS, TrimapCurve, narrowest


def truth_with_a_void_band(seed, shape=(23, 31)):
    """Squares of 0..2, a few pixels of void between some of them."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 3, (3, 4)), np.ones((8, 8), int))[: shape[0], : shape[1]].astype(np.uint8)
    labels[rng.integers(shape[0]), : shape[1] // 2] = 255
    return labels


def square_around(seeds, w):
    """All pixels whose square of (2w + 1)^2 holds a seed."""
    reached = np.zeros(seeds.shape, bool)
    for y, x in np.argwhere(seeds):
        reached[max(y - w, 0) : y + w + 1, max(x - w, 0) : x + w + 1] = True
    return reached


def beside_another_class(truth):
    found = np.zeros(truth.shape, bool)
    for (y, x), label in np.ndenumerate(truth):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < truth.shape[0] and 0 <= u < truth.shape[1] and 255 not in (label, truth[v, u]):
                found[y, x] |= label != truth[v, u]
    return found


def brute_force(truth, band, w):
    """The scored pixels of the band of width w."""
    reached = square_around(truth == 255, w) if band == "void" else square_around(beside_another_class(truth), w - 1)
    return reached & (truth != 255)


@pytest.mark.parametrize("band", ["void", "borders"])
def test_the_bands_are_those_of_a_brute_force(band):
    truth = truth_with_a_void_band(0)
    width = narrowest(truth, band)
    for w in (1, 2, 3, 7, WIDTHS):
        np.testing.assert_array_equal((width <= w) & (truth != 255), brute_force(truth, band, w), str(w))


@pytest.mark.parametrize("band", ["void", "borders"])
def test_the_curve_is_scikit_learns_score_of_the_pixels_in_each_band(band):
    rng = np.random.default_rng(1)
    curve, pairs = TrimapCurve(4, band), []
    for seed in range(3):
        truth = truth_with_a_void_band(seed)
        prediction = np.where(rng.uniform(size=truth.shape) < 0.7, truth % 3, rng.integers(0, 4, truth.shape))
        pairs.append((truth, prediction.astype(np.uint8)))
        curve.update(*pairs[-1])
    for w in (1, 5, WIDTHS):
        true, predicted = (
            np.concatenate([labels[i][brute_force(labels[0], band, w)] for labels in pairs]) for i in (0, 1)
        )
        assert curve.mean_iou[w - 1] == pytest.approx(jaccard_score(true, predicted, average="macro"))


def test_without_any_band_the_curve_is_not_a_number():
    curve = TrimapCurve(2, "void")
    curve.update(np.zeros((5, 5), np.uint8), np.zeros((5, 5), np.uint8))
    assert np.isnan(curve.mean_iou).all()


def test_counts_add_up():
    pictures = [truth_with_a_void_band(seed) for seed in (3, 4)]
    whole, first, second = (TrimapCurve(3, "borders") for _ in range(3))
    for picture, part in zip(pictures, (first, second), strict=True):
        for curve in (whole, part):
            curve.update(picture, np.zeros_like(picture))
    first.add(second.counts)
    np.testing.assert_array_equal(first.counts, whole.counts)
    assert whole.mean_iou.shape == (WIDTHS,)
