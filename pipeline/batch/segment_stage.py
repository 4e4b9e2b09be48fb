"""The SegmentStage: encoded images in, logits on the network's own grid out."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pipeline import images
from pipeline.batch.isolation import DEVICE_LOST, Isolation
from pipeline.batch.overlap import Step, in_turn, overlapped
from pipeline.batch.rows import LOGITS
from pipeline.batch.tracker import Tracker
from pipeline.data import rows
from pipeline.data.grouping import MAX_DECODED_PIXELS, together
from pipeline.data.rows import Row
from pipeline.errors import ImageError
from pipeline.logits import to_bytes
from pipeline.models import Inference, Network, Predictor

_THREADS = 8
"""Threads that decode beside a GPU: one core decodes some 600 pictures of 500x375 in a second."""

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Item:
    """Follow an image through the steps; `place` is its place in the unit of work, `value` what the last step gave."""

    place: int
    row: Row
    size: tuple[int, int]
    value: Any

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]


class SegmentStage:
    """Runs the network. One lives on each GPU, or on a CPU core where there is none.

    Images go in groups through decoding, upload, network and download; beside a GPU all four are at work at a time.
    Rows that failed before pass through; an image that cannot be decoded or segmented becomes a failed row.
    """

    def __init__(
        self,
        load_predictor: Callable[[], Predictor],
        max_pixels: int,
        tracker: Tracker,
        load_next: Callable[[], Callable[[pa.Table], pa.Table]] | None = None,
    ) -> None:
        """Load the network where this SegmentStage lives, and the stage that takes over from it there, if any."""
        self._predictor = load_predictor()
        self._next = load_next() if load_next else None
        self._max_pixels = max_pixels
        self._isolation = Isolation("segment", tracker)
        self._decoders = ThreadPoolExecutor(_THREADS)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Turn a table FETCHED into a table LOGITS with the same keys, or into what the next stage makes of that."""
        segmented = self._isolation.run(batch, self._segment, LOGITS)
        return self._next(segmented) if self._next else segmented

    def _segment(self, units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Give a table LOGITS for each unit of work, its rows in the unit's order; groups of several are under way."""
        groups_left: deque[int] = deque()  # of each unit under way

        def groups() -> Iterator[list[_Item]]:
            for unit in units:
                cut = self._groups(unit)
                groups_left.append(len(cut))
                yield from cut

        done: list[_Item] = []
        for group in self._through(groups()):
            done += group
            groups_left[0] -= 1
            if not groups_left[0]:
                groups_left.popleft()
                yield rows.table([item.row for item in sorted(done, key=attrgetter("place"))], LOGITS)
                done.clear()

    def _groups(self, unit: pa.Table) -> list[list[_Item]]:
        """Cut a unit into images that are decoded together; on a GPU those of a size, which take one pass together."""
        encoded = enumerate(unit.to_pylist())
        items = [_Item(place, row, images.header_size(row["image"]), row["image"]) for place, row in encoded]
        if not self._predictor.overlaps:
            return list(together(items, attrgetter("pixels"), MAX_DECODED_PIXELS))
        items.sort(key=attrgetter("size"))
        return list(together(items, attrgetter("pixels"), self._predictor.pass_pixels))

    def _through(self, groups: Iterable[list[_Item]]) -> Iterator[list[_Item]]:
        steps: list[Step] = [
            partial(_advance, "decode", self._decode_all),
            partial(_advance, "segment", partial(_each, self._predictor.upload)),
            partial(_advance, "segment", partial(_each, self._predictor.compute)),
            lambda group: _packed(_advance("segment", partial(_each, self._predictor.download), group)),
        ]
        if not self._predictor.overlaps:
            return in_turn(groups, steps)
        return overlapped(groups, steps, lambda group: sum(item.pixels for item in group), MAX_DECODED_PIXELS)

    def _decode_all(self, encoded: Sequence[bytes]) -> list[Image | Exception]:
        """Decode in threads beside a GPU; a worker on a CPU has one core, and others have the rest."""
        decoded = self._decoders.map(self._decode, encoded) if self._predictor.overlaps else map(self._decode, encoded)
        return list(decoded)

    def _decode(self, data: bytes) -> Image | Exception:
        try:
            return images.decode(data, self._max_pixels)
        except (ImageError, MemoryError) as error:
            return error


def load_predictor(model: Network, inference: Inference) -> Predictor:
    """Put the network on this process's device; on a CPU with one thread, since each core has a process."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    return Predictor(model, inference, device)


def _advance(stage: str, step: Callable[[Sequence[Any]], Sequence[Any]], group: list[_Item]) -> list[_Item]:
    """Take the images of a group that have not failed a step further; where its value is an exception, one fails."""
    live = [item for item in group if item.row["error"] is None]
    if not live:
        return group
    advanced = [
        _after(stage, item, value) for item, value in zip(live, step([item.value for item in live]), strict=True)
    ]
    return [item for item in group if item.row["error"] is not None] + advanced


def _after(stage: str, item: _Item, value: Any) -> _Item:
    if isinstance(value, Exception):
        return replace(item, row=item.row | {"image": None} | rows.failure(stage, value), value=None)
    return replace(item, value=value)


def _each(step: Callable[[Sequence[Any]], Sequence[Any]], values: Sequence[Any]) -> list[Any]:
    """Give what `step` makes of the values together; if that fails, of each by itself, so that one alone may fail."""
    try:
        return list(step(values))
    except torch.AcceleratorError:
        os._exit(DEVICE_LOST)  # this process's device fails every later image: leave the batch to a fresh process
    except Exception as error:
        if len(values) == 1:
            return [error]
    # only here is the memory of what failed free
    return [outcome for value in values for outcome in _each(step, [value])]


def _packed(group: list[_Item]) -> list[_Item]:
    """Put the logits of a group into its rows."""
    return [
        item
        if item.row["error"] is not None
        else replace(item, row=item.row | {"logits": to_bytes(item.value), "shape": item.value.shape}, value=None)
        for item in group
    ]
