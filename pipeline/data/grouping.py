"""A few rows at a time, so that what they hold fits in memory together."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline import images

MAX_DECODED_PIXELS = 32_000_000
MAX_FETCHED_BYTES = 64 * 1024 * 1024
_MAX_FETCHED_ROWS = 64

Row = dict[str, Any]


def decoded_together(fetched: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows of FETCHED whose decoded images have at most MAX_DECODED_PIXELS together, told from their headers."""
    return _portions(fetched, lambda row: images.header_pixels(row["image"]), MAX_DECODED_PIXELS)


def fetched_together(listed: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows of MANIFEST, a few dozen whose encoded images have at most MAX_FETCHED_BYTES together."""
    share = MAX_FETCHED_BYTES // _MAX_FETCHED_ROWS
    return _portions(listed, lambda row: max(row["length"] or 0, share), MAX_FETCHED_BYTES)


def _portions(rows: Iterable[Row], weight: Callable[[Row], int], most: int) -> Iterator[list[Row]]:
    """At least one row each time; a row that weighs more than `most` comes alone."""
    portion: list[Row] = []
    total = 0
    for row in rows:
        more = weight(row)
        if portion and total + more > most:
            yield portion
            portion, total = [], 0
        portion.append(row)
        total += more
    if portion:
        yield portion
