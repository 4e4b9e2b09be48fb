"""A few rows at a time, so that what they hold fits in memory together."""

from collections.abc import Callable, Iterable, Iterator

from pipeline import images
from pipeline.data.rows import Row

MAX_DECODED_PIXELS = 32_000_000
MAX_FETCHED_BYTES = 64 * 1024 * 1024
_MAX_FETCHED_ROWS = 64


def decoded_together(fetched: Iterable[Row]) -> Iterator[list[Row]]:
    """Group rows of FETCHED whose decoded images have, as their headers say, at most MAX_DECODED_PIXELS together."""
    return _groups(fetched, lambda row: images.header_pixels(row["image"]), MAX_DECODED_PIXELS)


def fetched_together(listed: Iterable[Row]) -> Iterator[list[Row]]:
    """Group rows of MANIFEST, a few dozen whose encoded images have at most MAX_FETCHED_BYTES together."""
    share = MAX_FETCHED_BYTES // _MAX_FETCHED_ROWS
    return _groups(listed, lambda row: max(row["length"] or 0, share), MAX_FETCHED_BYTES)


def _groups(rows: Iterable[Row], weight: Callable[[Row], int], most: int) -> Iterator[list[Row]]:
    """At least one row each time; a row that weighs more than `most` comes alone."""
    group: list[Row] = []
    total = 0
    for row in rows:
        more = weight(row)
        if group and total + more > most:
            yield group
            group, total = [], 0
        group.append(row)
        total += more
    if group:
        yield group
