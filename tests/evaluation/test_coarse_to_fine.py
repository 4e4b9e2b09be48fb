"""The search finds a planted optimum, and does not try all."""

import itertools

import pytest

from pipeline.evaluation.coarse_to_fine import best_point, coarse_to_fine

AXES = ([3, 4, 5, 6], [30, 40, 50, 60, 70, 80, 90, 100], [3, 4, 5, 6])


def hill(top):
    """A score that falls in every direction from `top`, and says which points it was asked for."""
    asked = []

    def score(points):
        asked.extend(points)
        return [-abs(w - top[0]) - abs(xy - top[1]) / 10 - abs(rgb - top[2]) for w, xy, rgb in points]

    return score, asked


@pytest.mark.parametrize("top", [*itertools.product((3, 4, 6), (30, 60, 90), (5,)), (6, 100, 6)])
def test_a_planted_optimum_is_found(top):
    score, asked = hill(top)
    tried = coarse_to_fine(AXES, score)
    assert max(tried, key=tried.get) == top
    assert len(asked) == len(set(asked)) == len(tried) < 128 / 1.5


def test_an_optimum_far_from_every_coarse_point_is_climbed_to():
    def ridge(points):
        return [(x if y == 3 else -x) - abs(y - 3) for x, y in points]

    tried = coarse_to_fine(([0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5]), ridge)
    assert max(tried, key=tried.get) == (7, 3)


def test_all_neighbours_of_the_best_are_tried():
    score, _ = hill((4, 50, 5))
    tried = coarse_to_fine(AXES, score)
    assert set(itertools.product((3, 4, 5), (40, 50, 60), (4, 5, 6))) <= set(tried)


def test_a_single_point_is_a_grid():
    assert coarse_to_fine(([1.0], [2.0], [3.0]), lambda points: [0.5 for _ in points]) == {(1.0, 2.0, 3.0): 0.5}


def test_of_equals_the_first_that_was_tried_is_the_best():
    tried = coarse_to_fine(([3, 4, 5], [30, 40], [3]), lambda points: [0.5 for _ in points])
    assert best_point(tried) == next(iter(tried)) == (3, 30, 3)
