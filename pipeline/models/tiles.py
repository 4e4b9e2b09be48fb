"""Cut a picture that is too large into overlapping tiles, and assign each grid point to the tile that decides it."""

import itertools
from dataclasses import dataclass

from pipeline import logits


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


def spans(pixels: int, *, tile: int, overlap: int, stride: int, step: int) -> list[Span]:
    """Cut tiles of one size that cover a side of `pixels` pixels, padded to k * step + 1.

    Args:
        pixels: the side of the picture.
        tile: the most pixels of a tile's side, k * step + 1.
        overlap: the least pixels that neighbours share, a multiple of `step` below `tile`.
        stride: output stride of the network, in pixels.
        step: `valid_step` of the scales in use, a multiple of `stride`.
    """
    padded = logits.valid_size(pixels, step)
    if padded <= tile:
        return [Span(0, padded, 0, logits.grid_size(padded, stride))]
    count = -(-(padded - 1 - overlap) // (tile - 1 - overlap))
    even = -(-(padded - 1 + (count - 1) * overlap) // count) + 1
    size = logits.valid_size(even, step)  # the smallest that this many tiles need
    steps = (padded - size) // step
    starts = [index * steps // (count - 1) * step for index in range(count)]
    # halfway between a tile's first pixel and its left neighbour's last
    borders = [(start + left + size - 1) // 2 // stride for left, start in itertools.pairwise(starts)]
    edges = [0, *borders, logits.grid_size(padded, stride)]
    return [Span(start, start + size, edges[i], edges[i + 1]) for i, start in enumerate(starts)]
