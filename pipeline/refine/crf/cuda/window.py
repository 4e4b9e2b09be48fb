"""A window of a picture: all of it where it is small, a tile and its margins where it is large."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from pipeline.geometry import Axis, Geometry
from pipeline.logits import window
from pipeline.refine.tiles import Span, spans


@dataclass(frozen=True, kw_only=True)
class Window:
    """Cut a window out of a picture; tensors on the device, of any strides.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        logits: (C, h, w) of any float type, the part of the picture's grid that covers the window.
        down: where the window's rows of pixels lie on that part.
        along: where its columns lie.
        rows: the window's place in the picture, and its core that is to be labelled.
        columns: likewise.
    """

    image: Tensor
    logits: Tensor
    down: Axis
    along: Axis
    rows: Span
    columns: Span

    @property
    def core(self) -> tuple[int, int, int, int]:
        """Give the core's first row, the row after its last, and its columns likewise, in the window."""
        y, x = self.rows, self.columns
        return y.start - y.low, y.stop - y.low, x.start - x.low, x.stop - x.low

    @property
    def pixels(self) -> int:
        """Count the window's pixels."""
        return self.image.shape[0] * self.image.shape[1]


def windows(image: Tensor, logits: Tensor, geometry: Geometry, tile: int, margin: int) -> Iterator[Window]:
    """Cut a picture (H, W, 3) and its logits (C, h, w) into windows, as refine_in_tiles does."""
    height, width = image.shape[:2]
    placed = geometry.over(height, width)
    for y in spans(height, tile, margin):
        for x in spans(width, tile, margin):
            grid, down, along = window(logits, y.high - y.low, x.high - x.low, placed, y.low, x.low)  # type: ignore[type-var]
            yield Window(
                image=image[y.low : y.high, x.low : x.high],
                logits=grid,
                down=down,
                along=along,
                rows=y,
                columns=x,
            )
