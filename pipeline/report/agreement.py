"""Two outputs of the same images side by side: masks joined by key."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline import masks
from pipeline.errors import ImageError, StorageError
from pipeline.masks import CommittedFile, MaskRows, Place

_MASKS_AT_ONCE = 128


def places_of(files: Sequence[CommittedFile], keys: Iterable[str]) -> dict[str, Place]:
    """Find the masks of `keys`, as far as `files` of one generation have them. Raises StorageError."""
    wanted = set(keys)
    if not wanted:
        return {}
    return {
        key: rows.place(index)
        for rows in masks.newest_rows(files)
        if isinstance(rows, MaskRows)
        for index, key in enumerate(rows.keys)
        if key in wanted
    }


def joined(
    first: Mapping[str, Place], second: Mapping[str, Place]
) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Read the masks of the keys that both have, a few at a time.

    Yields:
        key, the first's mask and the second's, (H, W) uint8 each, of one size: others are of another picture, and left.

    Raises:
        StorageError: a file cannot be read.
    """
    shared = sorted(first.keys() & second.keys(), key=lambda key: (first[key].uri, first[key].row))
    for start in range(0, len(shared), _MASKS_AT_ONCE):
        some = shared[start : start + _MASKS_AT_ONCE]
        pairs = [_read([places[key] for key in some]) for places in (first, second)]
        for key in some:
            one, other = pairs[0][first[key]], pairs[1][second[key]]
            a, b = decoded(key, one), decoded(key, other)
            if a.shape == b.shape:
                yield key, a, b


def decoded(key: str, png: bytes) -> NDArray[np.uint8]:
    """Decode the mask of `key`. Raises StorageError for a damaged one."""
    try:
        return masks.decode(png)
    except ImageError as error:
        raise StorageError(f"the mask of {key!r}: {error}; jobs/verify_output.py says more") from error


def _read(places: list[Place]) -> dict[Place, bytes]:
    return dict(masks.read_pngs(sorted(places, key=lambda place: (place.uri, place.row))))
