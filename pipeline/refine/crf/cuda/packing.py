"""Vertices of the permutohedral lattice (Adams, Baek and Davis, 2010) as integers that can be sorted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import CRFError

MAX_COORDINATE = 2**15
"""Above it float32 leaves less than 2^-8 of the distance between vertices; pydensecrf's 16-bit keys end there too."""

MAX_KEY = 2**62


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Pack a vertex into one integer: a linear, injective map, so that a neighbour's key is key + constant.

    A vertex's coordinates are (d + 1) * cell + remainder with one remainder for all, and sum to 0: the last one is
    redundant. Coordinate 0 and the differences of the other cells from cell 0 are the digits of a mixed radix.

    Attributes:
        remainder: what 1 more in every coordinate adds to the key.
        cells: what 1 more in each of the d + 1 cells adds; 0 for the last.
        keys: how many keys there are, from the lowest to the highest.
    """

    remainder: int
    cells: tuple[int, ...]
    keys: int

    @classmethod
    def of(cls, extents: Sequence[float]) -> "Packing":
        """Make the packing for d features in [0, extents], in standard deviations.

        Raises:
            CRFError: coordinates or keys would overflow.
        """
        size = len(extents) + 1
        reach = [scale * extent for scale, extent in zip(scales(size - 1), extents, strict=True)]
        # a vertex and its neighbours lie within 2 (d + 1) of the point
        radices = [math.ceil(sum(reach)) + 4 * size]
        for i in range(1, size - 1):
            radices.append(math.ceil((sum(reach[: i - 1]) + (i + 1) * reach[i - 1]) / size) + 8)
        largest = max(sum(reach), *(axis * value for axis, value in enumerate(reach, start=1)))
        places = [math.prod(radices[:i]) for i in range(size)]
        if largest > MAX_COORDINATE or places[-1] >= MAX_KEY:
            raise CRFError(
                f"a picture that spans {max(extents):.0f} standard deviations of the CRF's kernel is more than its "
                "lattice can number; use a larger standard deviation, or smaller pictures"
            )
        return cls(
            remainder=places[0],
            cells=(size * places[0] - sum(places[1:-1]), *places[1:-1], 0),
            keys=places[-1],
        )

    def steps(self) -> list[int]:
        """Give the step to the next neighbour's key on each axis: every coordinate -1, the axis' own +(d + 1)."""
        return [cell - self.remainder for cell in self.cells]


def scales(dimensions: int) -> list[float]:
    """Give the diagonal of E (Adams et al., page 5) for unit blurs, rounded to float32 as pydensecrf rounds it."""
    deviation = float(np.float32(math.sqrt(2 / 3) * (dimensions + 1)))
    return [float(np.float32(deviation / math.sqrt((i + 1) * (i + 2)))) for i in range(dimensions)]
