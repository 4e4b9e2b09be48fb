"""Scores against scikit-learn."""

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from pipeline.errors import ConfigError
from pipeline.metrics import SegmentationScore


@pytest.fixture
def pictures():
    """Three pictures of different sizes with labels 0..5, a tenth of the truth not labelled; label 4 is never true."""
    rng = np.random.default_rng(0)
    pairs = []
    for shape in [(30, 40), (17, 23), (1, 5)]:
        truth = rng.choice([0, 1, 2, 3, 5], shape).astype(np.uint8)
        prediction = np.where(rng.uniform(size=shape) < 0.7, truth, rng.integers(0, 6, shape)).astype(np.uint8)
        truth[rng.uniform(size=shape) < 0.1] = 255
        pairs.append((truth, prediction))
    return pairs


def scored(pairs, classes):
    score = SegmentationScore(classes)
    for truth, prediction in pairs:
        score.update(truth, prediction)
    return score


def test_scores_equal_scikit_learns_on_the_pooled_pixels(pictures):
    score = scored(pictures, 6)
    truth = np.concatenate([t.ravel() for t, _ in pictures])
    prediction = np.concatenate([p.ravel() for _, p in pictures])[truth != 255]
    truth = truth[truth != 255]
    np.testing.assert_array_equal(score.matrix, confusion_matrix(truth, prediction, labels=range(6)))
    np.testing.assert_allclose(score.iou, jaccard_score(truth, prediction, labels=range(6), average=None))
    assert score.mean_iou == pytest.approx(jaccard_score(truth, prediction, average="macro"))
    assert score.pixel_accuracy == pytest.approx(accuracy_score(truth, prediction))


def test_the_order_of_pictures_does_not_matter(pictures):
    np.testing.assert_array_equal(scored(pictures, 6).matrix, scored(pictures[::-1], 6).matrix)


def test_a_class_that_nowhere_occurs_is_left_out_of_the_mean(pictures):
    six, eight = scored(pictures, 6), scored(pictures, 8)
    assert eight.mean_iou == pytest.approx(six.mean_iou)
    assert np.isnan(eight.iou[6:]).all()


def test_nothing_counted_is_not_a_number():
    score = SegmentationScore(3)
    score.update(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
    assert np.isnan(score.mean_iou)
    assert np.isnan(score.pixel_accuracy)


def test_a_perfect_prediction():
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    score = scored([(labels, labels)], 3)
    assert score.mean_iou == score.pixel_accuracy == 1.0


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), "one size"),
        (np.full((2, 2), 3, np.uint8), np.zeros((2, 2), np.uint8), "truth holds the label 3"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8), "prediction holds the label 255"),
    ],
)
def test_what_cannot_be_scored_is_refused(truth, prediction, message):
    with pytest.raises(ConfigError, match=message):
        SegmentationScore(3).update(truth, prediction)


def test_one_class_is_refused():
    with pytest.raises(ConfigError, match="two classes"):
        SegmentationScore(1)


def test_many_classes_take_memory_for_their_matrix_and_not_for_each_pixel():
    truth = np.arange(300 * 300, dtype=np.uint64).reshape(300, 300) % 150
    tracemalloc.start()
    try:
        scored([(truth.astype(np.uint8), truth.astype(np.uint8))], 150)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 8 * (truth.size + 150**2)
