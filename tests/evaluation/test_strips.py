"""Pictures are counted in strips of rows: the same, whatever the strips, and in memory that has a bound."""

import tracemalloc

import numpy as np
import pytest

from pipeline.evaluation import strips
from pipeline.evaluation.mask_counts import Counting, MaskCounts
from pipeline.labels import IGNORE


def masks(height, width, classes):
    """A truth of blocks with some void, and a prediction that is a little off."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, (-(-height // 13), -(-width // 17))).astype(np.uint8)
    truth = truth.repeat(13, axis=0).repeat(17, axis=1)[:height, :width].copy()
    prediction = np.roll(truth, (1, 2), axis=(0, 1))
    truth[rng.uniform(size=truth.shape) < 0.05] = IGNORE
    return truth, prediction


def counted(truth, prediction, classes, band):
    counts = MaskCounts(Counting(classes=classes, band=band))
    counts.update("key", truth, prediction)
    row = counts.to_row("")
    return {name: np.array(row[name]) for name in ("matrix", "trimap", "border", "iou", "border_f")}


@pytest.mark.parametrize("shape", [(211, 90), (1, 300), (300, 1)])
@pytest.mark.parametrize(("classes", "band"), [(3, "void"), (100, "borders")])
def test_what_is_counted_does_not_depend_on_the_strips(shape, classes, band, monkeypatch):
    pictures = masks(*shape, classes)
    whole = counted(*pictures, classes, band)
    monkeypatch.setattr(strips, "STRIP_PIXELS", 1)  # as narrow as their margins allow
    assert (len(list(strips.strips((211, 90), 3))), len(list(strips.strips((211, 90), 40)))) == (36, 3)
    for name, values in counted(*pictures, classes, band).items():
        np.testing.assert_array_equal(values, whole[name], name)


def test_each_row_is_one_strips_own_and_sees_its_margin():
    rows = np.arange(5000)
    own = []
    for seen, core in strips.strips((5000, 2000), 40):
        assert len(rows[seen]) * 2000 <= strips.STRIP_PIXELS
        mine = rows[seen][core]
        own += mine.tolist()
        assert rows[seen][0] == max(mine[0] - 40, 0)
        assert rows[seen][-1] == min(mine[-1] + 40, 4999)
    assert own == rows.tolist()


def test_memory_does_not_grow_with_the_picture():
    pictures = masks(5000, 1000, 6)
    tracemalloc.start()
    try:
        counted(*pictures, 6, "borders")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * strips.STRIP_PIXELS
