"""Scoring masks that the main job wrote: joined with the labelled pictures by key, and counted by Ray tasks."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.evaluation.labelled import Labelled
from pipeline.evaluation.mask_counts import Counting, MaskCounts
from pipeline.images import EXTENSIONS
from pipeline.runtime.tasks import task_results

_MASKS_A_TASK = 16

Found = tuple[str, NDArray[np.uint8]]
"""The key of a mask, and the mask (H, W)."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What was counted, and what has no counterpart.

    Attributes:
        rows: of schema COUNTED.
        missing: keys of labelled pictures that have no mask.
        extra: keys of masks that belong to no labelled picture.
    """

    rows: list[dict[str, Any]]
    missing: list[str]
    extra: list[str]


def count_existing(kind: str, found: Iterable[Found], labelled: Labelled, how: Counting) -> Joined:
    """Count masks against the truth, a few hundred in memory at a time.

    Raises:
        ConfigError: a mask that is not of its picture's size or has other classes, or two masks of one picture.
    """
    names = Names(labelled.keys)
    extra: list[str] = []
    key_of: dict[int, str] = {}

    def known() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for key, mask in found:
            index = names.find(key)
            if index is None:
                extra.append(key)
                continue
            if index in key_of:
                raise ConfigError(f"the masks {key_of[index]!r} and {key!r} both fit {labelled.keys[index]!r}")
            key_of[index] = key
            yield index, mask

    everything, batches = ray.put(labelled), _batches(known())
    rows = list(task_results(_count.remote(kind, everything, batch, how) for batch in batches))
    missing = [key for index, key in enumerate(labelled.keys) if index not in key_of]
    return Joined(rows=rows, missing=missing, extra=extra)


def _batches(found: Iterator[tuple[int, NDArray[np.uint8]]]) -> Iterator[list[tuple[int, NDArray[np.uint8]]]]:
    while batch := list(itertools.islice(found, _MASKS_A_TASK)):
        yield batch


@ray.remote
def _count(
    kind: str, labelled: Labelled, batch: Sequence[tuple[int, NDArray[np.uint8]]], how: Counting
) -> dict[str, Any]:
    counts = MaskCounts(how)
    for index, mask in batch:
        _, truth = labelled.dataset.pair(index)
        try:
            counts.update(truth, mask)
        except ConfigError as error:
            raise ConfigError(f"the mask of {labelled.keys[index]}: {error}") from None
    return counts.to_row(kind)


class Names:
    """Labelled pictures by the names that the main job may have given them.

    An input begins somewhere above a picture, or below: two keys are one picture's where, without the extensions of
    images, one is the other or its end behind a "/" or "#".
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """Take the keys of the labelled pictures."""
        self._whole: dict[str, int] = {}
        self._ends: dict[str, list[int]] = defaultdict(list)
        for index, key in enumerate(keys):
            name = _name(key)
            self._whole[name] = index
            for end in _ends(name):
                self._ends[end].append(index)

    def find(self, key: str) -> int | None:
        """Which labelled picture the mask called `key` is of. Raises ConfigError where it could be of several."""
        name = _name(key)
        candidates = self._ends.get(name, [])
        if len(candidates) > 1 and name not in self._whole:
            raise ConfigError(
                f"the mask {key!r} could be that of {len(candidates)} labelled pictures; segment them with an input "
                "from which their keys differ"
            )
        if name in self._whole:
            return self._whole[name]
        if candidates:
            return candidates[0]
        return next((self._whole[end] for end in _ends(name) if end in self._whole), None)


def _name(key: str) -> str:
    suffix = PurePosixPath(key).suffix
    return key[: -len(suffix)] if suffix.lower() in EXTENSIONS else key


def _ends(name: str) -> Iterator[str]:
    """`name` and what stands behind each "/" or "#" in it, the longest first."""
    yield name
    yield from (name[i + 1 :] for i, letter in enumerate(name) if letter in "/#")
