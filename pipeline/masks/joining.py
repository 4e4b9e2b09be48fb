"""Two outputs of the same images side by side: masks joined by key."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline import storage
from pipeline.errors import ConfigError, ImageError, StorageError
from pipeline.masks.png import decode
from pipeline.masks.reading import CommittedFile, generation_files, generations
from pipeline.masks.rows import MaskRows, Place, newest_rows, read_pngs
from pipeline.masks.schema import DatasetInfo

_MASKS_AT_ONCE = 128


def network_files(info: DatasetInfo, output: str, network: str | None) -> list[CommittedFile]:
    """Find the masks that the same weights gave without a refiner.

    Args:
        info: the note of the masks that they are to be compared with.
        output: where those are; a generation of it without a refiner is taken.
        network: an output of the same images without a refiner, instead.

    Returns:
        Their files; none where there are none, or `info` is of masks without a refiner itself.

    Raises:
        ConfigError: the masks at `network` are of other weights, or none is without a refiner.
        StorageError: a file cannot be read.
    """
    where = storage.normalize(network) if network else output
    of_network = [note for note in generations(where) if note.crf is None]
    fitting = [note for note in of_network if note.model_digest == info.model_digest]
    if network and not of_network:
        raise ConfigError(f"network: {storage.redact(where)} has no masks without a refiner; see --refine.backend none")
    if network and not fitting:
        raise ConfigError(f"network: the masks at {storage.redact(where)} are of other weights than those they refine")
    if not fitting or info.crf is None:
        return []
    return generation_files(where, fitting[0].generation)


def places_of(files: Sequence[CommittedFile], keys: Iterable[str]) -> dict[str, Place]:
    """Find the masks of `keys`, as far as `files` of one generation have them. Raises StorageError."""
    wanted = set(keys)
    if not wanted:
        return {}
    return {
        key: rows.place(index)
        for rows in newest_rows(files)
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
        return decode(png)
    except ImageError as error:
        raise StorageError(f"the mask of {key!r}: {error}; `deeplab-buckets verify` says more") from error


def _read(places: list[Place]) -> dict[Place, bytes]:
    return dict(read_pngs(sorted(places, key=lambda place: (place.uri, place.row))))
