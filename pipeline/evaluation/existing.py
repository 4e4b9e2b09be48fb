"""Scoring masks that the main job wrote: joined with the labelled pictures, and counted by Ray tasks."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.evaluation.labelled import Labelled
from pipeline.evaluation.mask_counts import Counting, MaskCounts
from pipeline.evaluation.picture_names import PictureNames
from pipeline.runtime.tasks import task_results

_MASKS_A_TASK = 16


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


def count_existing(
    kind: str,
    masks: Iterable[tuple[str, str, NDArray[np.uint8]]],
    labelled: Labelled,
    names: PictureNames,
    counting: Counting,
) -> Joined:
    """Count masks against the truth, a few hundred in memory at a time.

    Args:
        kind: of the masks, network or refined.
        masks: key, source and mask (H, W) of each.
        labelled: the truth.
        names: tells which picture a mask is of.
        counting: how pictures are counted.

    Raises:
        ConfigError: a mask that is not of its picture's size or has other classes, or two masks of one picture.
    """
    extra: list[str] = []
    key_of: dict[int, str] = {}

    def joined() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for key, source, mask in masks:
            index = names.find(key, source)
            if index is None:
                extra.append(key)
                continue
            if index in key_of:
                raise ConfigError(f"the masks {key_of[index]!r} and {key!r} both fit {labelled.keys[index]!r}")
            key_of[index] = key
            yield index, mask

    everything, batches = ray.put(labelled), _batches(joined())
    rows = list(task_results(_count.remote(kind, everything, batch, counting) for batch in batches))
    missing = [key for index, key in enumerate(labelled.keys) if index not in key_of]
    return Joined(rows=rows, missing=missing, extra=extra)


def _batches(masks: Iterator[tuple[int, NDArray[np.uint8]]]) -> Iterator[list[tuple[int, NDArray[np.uint8]]]]:
    while batch := list(itertools.islice(masks, _MASKS_A_TASK)):
        yield batch


@ray.remote
def _count(
    kind: str, labelled: Labelled, batch: Sequence[tuple[int, NDArray[np.uint8]]], how: Counting
) -> dict[str, Any]:
    counts = MaskCounts(how)
    for index, mask in batch:
        _, truth = labelled.dataset.pair(index)
        try:
            counts.update(labelled.keys[index], truth, mask)
        except ConfigError as error:
            raise ConfigError(f"the mask of {labelled.keys[index]}: {error}") from None
    return counts.to_row(kind)
