"""Images on their way through the steps of a stage, in groups: what one image provokes costs that image alone."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipeline.batch.isolation import DEVICE_LOST
from pipeline.data import rows
from pipeline.data.rows import Row
from pipeline.errors import DeviceLostError

Values = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Item:
    """Follow an image through the steps.

    Attributes:
        place: in its unit of work.
        row: what is known of it, as in the stage's tables.
        size: width and height in pixels, as its header says.
        value: what the last step made of it.
        refined_here: whether the same worker makes its mask.
    """

    place: int
    row: Row
    size: tuple[int, int]
    value: Any
    refined_here: bool

    @property
    def pixels(self) -> int:
        """Count the image's pixels, as its header says."""
        return self.size[0] * self.size[1]

    @property
    def failed(self) -> bool:
        """Tell whether a step failed on it."""
        return self.row["error"] is not None


def advance(
    stage: str, step: Callable[[Values], Values], wanted: Callable[[Item], bool], group: Sequence[Item]
) -> list[Item]:
    """Take a group a step further: the images that are `wanted` and have not failed.

    Args:
        stage: named in the row of an image that fails.
        step: takes the items' values; gives for each what comes of it, or the exception that it ends in.
        wanted: chooses the images that take the step.
        group: comes back whole, in its order.
    """
    taken = [item for item in group if wanted(item) and not item.failed]
    results = iter(step([item.value for item in taken]) if taken else [])
    places = {item.place for item in taken}
    return [_after(stage, item, next(results)) if item.place in places else item for item in group]


def each(step: Callable[[Values], Values]) -> Callable[[Values], Values]:
    """Let a step that fails on several values try each by itself, so that only those at fault end in an exception."""

    def tried(values: Values) -> Values:
        try:
            return list(step(values))
        except (torch.AcceleratorError, DeviceLostError):
            os._exit(DEVICE_LOST)  # this process's device fails every later image: leave the batch to a fresh process
        except Exception as error:
            if len(values) == 1:
                return [error]
        # only here is the memory of what failed free
        return [result for value in values for result in tried([value])]

    return tried


def _after(stage: str, item: Item, result: Any) -> Item:
    if isinstance(result, Exception):
        return replace(item, row=item.row | {"image": None} | rows.failure(stage, result), value=None)
    return replace(item, value=result)
