"""The border F-measure against its definition, pixel by pixel, and on cases that are known."""

import math

import numpy as np
import pytest

from pipeline.evaluation.border import TOLERANCE, border_f_measure
from pipeline.labels import IGNORE


def square(top, left, side, shape=(90, 120)):
    mask = np.zeros(shape, np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def border(mask, label, void):
    """Pixels that differ from the one to the right, below or below to the right, as DAVIS's seg2bmap marks them."""
    height, width = mask.shape
    marked = set()
    for y in range(height):
        for x in range(width):
            for below, right in ((0, 1), (1, 0), (1, 1)):
                if y + below >= height or x + right >= width or void[y, x] or void[y + below, x + right]:
                    continue
                if (mask[y, x] == label) != (mask[y + below, x + right] == label):
                    marked.add((y, x))
    return marked


def by_definition(truth, prediction, label):
    void = truth == IGNORE
    right, mine = border(truth, label, void), border(prediction, label, void)
    radius = math.ceil(TOLERANCE * math.hypot(*truth.shape))

    def share(these, those):
        near = [any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in those) for y, x in these]
        return sum(near) / len(near) if near else 0.0

    precision, recall = share(mine, right), share(right, mine)
    if not mine and not right:
        return 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_it_is_its_definition():
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 4, (5, 7)).astype(np.uint8)
    truth = blocks.repeat(9, axis=0).repeat(11, axis=1)
    prediction = np.roll(truth, (1, 2), axis=(0, 1))
    prediction[20:30, 5:40] = 2
    truth[10:18, 30:50] = IGNORE
    measure = border_f_measure(truth, prediction, 6)
    for label in range(4):
        assert measure[label] == pytest.approx(by_definition(truth, prediction, label), abs=1e-6)
    assert 0 < measure[:4].min() < measure[:4].max() < 1
    assert np.isnan(measure[4:]).all()


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (1, 1)])
def test_pictures_thinner_than_the_tolerance(shape):
    place = np.arange(math.prod(shape)).reshape(shape)
    truth, near, far = ((place >= border).astype(np.uint8) for border in (1500, 1520, 1540))
    labels = truth.max() + 1
    np.testing.assert_array_equal(border_f_measure(truth, near, 2)[:labels], 1)
    np.testing.assert_array_equal(border_f_measure(truth, far, 2)[:labels], 0 if labels > 1 else 1)


@pytest.mark.parametrize(("shift", "measure"), [(0, 1.0), (1, 1.0), (2, 1.0), (40, 0.0)])
def test_a_border_within_the_tolerance_is_right(shift, measure):
    # 90 x 120 pixels: a diagonal of 150, so that a border may be two pixels off
    found = border_f_measure(square(20, 10, 30), square(20, 10 + shift, 30), 2)
    np.testing.assert_allclose(found, [measure, measure])


def test_what_only_one_of_them_has_counts_nothing_and_a_picture_without_borders_is_right():
    nothing, everything = np.zeros((20, 30), np.uint8), np.ones((20, 30), np.uint8)
    np.testing.assert_array_equal(border_f_measure(nothing, nothing, 3), [1, np.nan, np.nan])
    np.testing.assert_array_equal(border_f_measure(square(5, 5, 8, (20, 30)), nothing, 2), [0, 0])
    np.testing.assert_array_equal(border_f_measure(nothing, everything, 2), [1, 1])
    np.testing.assert_array_equal(border_f_measure(np.full((20, 30), IGNORE, np.uint8), nothing, 2), [np.nan, np.nan])
