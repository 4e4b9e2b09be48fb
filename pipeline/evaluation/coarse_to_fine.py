"""The search of a grid, coarse and then fine around the best (arXiv 1606.00915, section 4.1)."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Point = tuple[float, ...]
"""A value on each axis."""

_Key = TypeVar("_Key")


def coarse_to_fine(
    axes: Sequence[Sequence[float]], score: Callable[[Sequence[Point]], Sequence[float]]
) -> dict[Point, float]:
    """Score every second value of each axis, and the last; then all neighbours of the best, until it stays the best.

    Args:
        axes: the values of each axis, in order. A neighbour is at most one value away on each.
        score: of many points at once; the higher the better.

    Returns:
        the points that were scored, with their scores, in that order.
    """
    sizes = [len(axis) for axis in axes]
    fresh = list(itertools.product(*(sorted({*range(0, size, 2), size - 1}) for size in sizes)))
    scores: dict[tuple[int, ...], float] = {}
    while fresh:
        scores |= zip(fresh, score([_point(axes, indices) for indices in fresh]), strict=True)
        best = best_point(scores)
        around = (range(max(i - 1, 0), min(i + 2, size)) for i, size in zip(best, sizes, strict=True))
        fresh = [indices for indices in itertools.product(*around) if indices not in scores]
    return {_point(axes, indices): value for indices, value in scores.items()}


def best_point(scores: Mapping[_Key, float]) -> _Key:
    """Return the point with the highest score, of equals the one that was scored first."""
    return max(scores, key=lambda point: scores[point])


def _point(axes: Sequence[Sequence[float]], indices: Sequence[int]) -> Point:
    return tuple(axis[i] for axis, i in zip(axes, indices, strict=True))
