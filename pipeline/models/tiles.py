"""Cut a picture that is too large into overlapping tiles, and assign each grid point to the tile that decides it."""

import itertools
from dataclasses import dataclass

from pipeline.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Span:
    """Hold one tile along one axis.

    start, stop: its pixels in the padded picture; `start` lies on a grid point at every scale.
    first, last: the grid points it decides, as a half-open range of the whole picture's grid. In an overlap each tile
        decides the half that lies deeper inside it, where it has seen the wider surroundings.
    """

    start: int
    stop: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """Return the pixels of the tile along this axis."""
        return self.stop - self.start


def spans(pixels: int, *, tile: int, overlap: int, geometry: Geometry, step: int) -> list[Span]:
    """Cut tiles of one size that cover a side of `pixels` pixels, padded to a valid size: k * step + 1 where the grid
    is aligned, k * step where it is of half pixels.

    Args:
        pixels: the side of the picture.
        tile: the most pixels of a tile's side, a valid size.
        overlap: the least pixels that neighbours share, a multiple of `step` below `tile`.
        geometry: of the network's grid in the picture that it sees.
        step: `valid_step` of the scales in use, a multiple of the stride.
    """
    extra, stride = geometry.extra, geometry.stride
    padded = geometry.valid_size(pixels, step)
    points = geometry.points(padded)
    if padded <= tile:
        return [Span(0, padded, 0, points)]
    count = -(-(padded - extra - overlap) // (tile - extra - overlap))
    even = -(-(padded - extra + (count - 1) * overlap) // count) + extra
    size = geometry.valid_size(even, step)  # the smallest that this many tiles need
    steps = (padded - size) // step
    starts = [index * steps // (count - 1) * step for index in range(count)]
    # halfway between a tile's first pixel and its left neighbour's last
    borders = [(start + left + size - extra) // 2 // stride for left, start in itertools.pairwise(starts)]
    edges = [0, *borders, points]
    return [Span(start, start + size, edges[i], edges[i + 1]) for i, start in enumerate(starts)]
