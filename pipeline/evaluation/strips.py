"""Strips of rows in which a picture is counted: what that takes does not grow with the picture."""

from collections.abc import Iterator

from pipeline.refine.tiles import spans

STRIP_PIXELS = 2**20
"""Of a strip with its margins, unless these have more than half as many."""


def strips(shape: tuple[int, ...], margin: int) -> Iterator[tuple[slice, slice]]:
    """Cut a picture (H, W) into strips that each see `margin` rows more on either side.

    Yields:
        the rows that a strip sees, and which of these are its own: each row of the picture is one strip's.
    """
    height, width = shape
    for strip in spans(height, max(STRIP_PIXELS // width, 4 * margin), margin):
        yield slice(strip.low, strip.high), slice(strip.start - strip.low, strip.stop - strip.low)
