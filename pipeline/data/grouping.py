"""A few rows at a time, so that what they hold fits in memory together."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pipeline import images
from pipeline.data.rows import Row

MAX_DECODED_PIXELS = 32_000_000
MAX_FETCHED_BYTES = 64 * 1024 * 1024
_MAX_FETCHED_ROWS = 64

_T = TypeVar("_T")


def decoded_together(fetched: Iterable[Row]) -> Iterator[list[Row]]:
    """Group rows of FETCHED whose decoded images have, as their headers say, at most MAX_DECODED_PIXELS together."""
    return together(fetched, lambda row: images.header_pixels(row["image"]), MAX_DECODED_PIXELS)


def fetched_together(listed: Iterable[Row]) -> Iterator[list[Row]]:
    """Group rows of MANIFEST, a few dozen whose encoded images have at most MAX_FETCHED_BYTES together."""
    share = MAX_FETCHED_BYTES // _MAX_FETCHED_ROWS
    return together(listed, lambda row: max(row["length"] or 0, share), MAX_FETCHED_BYTES)


def together(items: Iterable[_T], weight: Callable[[_T], int], most: int) -> Iterator[list[_T]]:
    """Group items that weigh at most `most` together; one that weighs more comes alone."""
    group: list[_T] = []
    total = 0
    for item in items:
        more = weight(item)
        if group and total + more > most:
            yield group
            group, total = [], 0
        group.append(item)
        total += more
    if group:
        yield group
