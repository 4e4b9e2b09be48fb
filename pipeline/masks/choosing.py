"""A few rows out of very many, chosen in one pass with little memory."""

import heapq
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T")


class Highest(Generic[_T]):
    """Keep the `count` items of the highest scores; of equals those that came first."""

    def __init__(self, count: int) -> None:
        """Begin with none."""
        self._count = count
        self._heap: list[tuple[float, int, _T]] = []
        self._offered = 0

    def offer(self, scores: NDArray[np.float64], item: Callable[[int], _T]) -> None:
        """Take the best of a batch: `scores` (N,), where NaN is no candidate, and `item(index)` makes what is kept."""
        if not self._count:
            return
        least = self._heap[0][0] if len(self._heap) >= self._count else -np.inf
        candidates = np.flatnonzero(scores > least)
        if len(candidates) > self._count:
            order = np.argsort(-scores[candidates], kind="stable")
            candidates = np.sort(candidates[order[: self._count]])
        for index in candidates.tolist():
            entry = (float(scores[index]), -(self._offered + index), item(index))
            if len(self._heap) < self._count:
                heapq.heappush(self._heap, entry)
            else:
                heapq.heappushpop(self._heap, entry)
        self._offered += len(scores)

    def __iter__(self) -> Iterator[_T]:
        """Give what is kept, the highest first."""
        return (item for _, _, item in sorted(self._heap, key=lambda entry: entry[:2], reverse=True))


def chances(keys: Sequence[str]) -> NDArray[np.float64]:
    """Draw a number in [0, 1) for each key, the same one every time: the highest are a random sample of the keys.

    Two outputs that are sampled by it give the same keys, as far as both have them.
    """
    digests = np.array([zlib.crc32(key.encode()) for key in keys], np.uint64)
    mixed = (digests * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)  # Fibonacci hashing spreads similar digests
    return mixed.astype(np.float64) / 2.0**53
