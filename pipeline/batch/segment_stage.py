"""The SegmentStage: encoded images in, logits on the network's own grid out, or masks where its GPU refines too."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pipeline import images
from pipeline.batch.gpu_refinement import Computed, GpuRefinement, Made, Uploaded
from pipeline.batch.isolation import Isolation
from pipeline.batch.overlap import Step, in_turn, overlapped
from pipeline.batch.rows import LOGITS
from pipeline.batch.steps import Item, advance, each
from pipeline.batch.tracker import Tracker, finished_by
from pipeline.data import rows
from pipeline.data.grouping import MAX_DECODED_PIXELS, together
from pipeline.data.rows import Row
from pipeline.errors import ImageError
from pipeline.logits import to_bytes
from pipeline.models import Inference, Network, Predictor
from pipeline.runtime.allocator import keep_freed_memory

_THREADS = 8
"""Threads that decode beside a GPU, and that encode: a core decodes some 600 pictures of 500x375 in a second."""

Image = NDArray[np.uint8]


class _Finished(NamedTuple):
    """Hold what a row gets, and what it was made of where this worker has refined it."""

    columns: Row
    made: Made | None = None


class SegmentStage:
    """Runs the network. One lives on each GPU, or on a CPU core where there is none.

    Images go in groups through decoding, upload, network, refinement where the GPU does it, and download; beside a GPU
    all of these are at work at a time. Rows that failed before pass through; an image that cannot be decoded or
    segmented becomes a failed row.
    """

    def __init__(
        self,
        load_predictor: Callable[[], Predictor],
        max_pixels: int,
        tracker: Tracker,
        refinement: GpuRefinement | None = None,
    ) -> None:
        """Load the network where this SegmentStage lives; with `refinement` its GPU refines as well.

        Raises:
            CRFError: the GPU cannot refine.
        """
        self._predictor = load_predictor()
        if refinement:
            refinement.open()
        self._max_pixels, self._tracker, self._refinement = max_pixels, tracker, refinement
        self._schema = refinement.schema if refinement else LOGITS
        self._isolation = Isolation("segment", tracker)
        self._decoders, self._encoders = ThreadPoolExecutor(_THREADS), ThreadPoolExecutor(_THREADS)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Turn a table FETCHED into some with the same keys in the same order: LOGITS, or the refinement's schema."""
        if self._refinement:
            self._refinement.share(batch.num_rows, self._tracker)
        is_last = self._refinement is not None and self._refinement.is_last
        yield from self._isolation.run(batch, self._segment, self._schema, finished_by if is_last else None)

    def _segment(self, units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Give a table for each unit of work, its rows in the unit's order; groups of several units are under way."""
        groups_left: deque[int] = deque()  # of each unit under way

        def groups() -> Iterator[list[Item]]:
            for unit in units:
                cut = self._groups(unit)
                groups_left.append(len(cut))
                yield from cut

        done: list[Item] = []
        for group in self._through(groups()):
            done += group
            groups_left[0] -= 1
            if not groups_left[0]:
                groups_left.popleft()
                yield rows.table([item.row for item in sorted(done, key=attrgetter("place"))], self._schema)
                self._report(done)
                done.clear()

    def _report(self, unit: Iterable[Item]) -> None:
        if self._refinement:
            made = {item.row["key"]: item.value.made for item in unit if not item.failed and item.value.made}
            self._refinement.report(self._tracker, made)

    def _groups(self, unit: pa.Table) -> list[list[Item]]:
        """Cut a unit into images that are decoded together; on a GPU those of a size, which take one pass together."""
        items = [
            Item(
                place=place,
                row=row,
                size=images.header_size(row["image"]),
                value=row["image"],
                refined_here=self._refinement is not None and self._refinement.takes(),
            )
            for place, row in enumerate(unit.to_pylist())
        ]
        if not self._predictor.overlaps:
            return list(together(items, attrgetter("pixels"), MAX_DECODED_PIXELS))
        items.sort(key=attrgetter("size"))
        return list(together(items, attrgetter("pixels"), self._predictor.pass_pixels))

    def _through(self, groups: Iterable[list[Item]]) -> Iterator[list[Item]]:
        steps: list[Step] = [
            partial(advance, "decode", self._decode_all, _any),
            partial(advance, "segment", each(self._upload), _any),
            partial(advance, "segment", each(self._compute), _any),
        ]
        if self._refinement:
            steps.append(partial(advance, "refine", self._refinement.refine, _refined_here))
        steps.append(self._finish)
        if not self._predictor.overlaps:
            return in_turn(groups, steps)
        return overlapped(groups, steps, lambda group: sum(item.pixels for item in group), MAX_DECODED_PIXELS)

    def _decode_all(self, encoded: Sequence[bytes]) -> list[Image | Exception]:
        return self._in_threads(self._decoders, self._decode, encoded)

    def _decode(self, data: bytes) -> Image | Exception:
        try:
            return images.decode(data, self._max_pixels)
        except (ImageError, MemoryError) as error:
            return error

    def _upload(self, pictures: Sequence[Image]) -> list[Uploaded]:
        return [Uploaded(*one) for one in zip(pictures, self._predictor.upload(pictures), strict=True)]

    def _compute(self, pictures: Sequence[Uploaded]) -> list[Computed]:
        logits = self._predictor.compute([one.seen for one in pictures])
        return [Computed(*one) for one in zip(pictures, logits, strict=True)]

    def _finish(self, group: list[Item]) -> list[Item]:
        """Put the logits or the mask of each image of a group into its row."""
        group = advance("segment", each(self._packed), lambda item: isinstance(item.value, Computed), group)
        group = advance("refine", each(self._encoded), lambda item: isinstance(item.value, Made), group)
        return [item if item.failed else replace(item, row=item.row | item.value.columns) for item in group]

    def _packed(self, computed: Sequence[Computed]) -> list[_Finished]:
        grids = self._predictor.download([one.logits for one in computed])
        return [_Finished({"logits": to_bytes(grid), "shape": grid.shape}) for grid in grids]

    def _encoded(self, made: Sequence[Made]) -> list[_Finished]:
        assert self._refinement is not None
        columns = self._in_threads(self._encoders, self._refinement.columns, made)
        return [_Finished(some | {"image": None}, one) for some, one in zip(columns, made, strict=True)]

    def _in_threads(self, threads: ThreadPoolExecutor, work: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
        """Work on each value, in threads beside a GPU; a worker on a CPU has one core, and others have the rest."""
        return list(threads.map(work, values) if self._predictor.overlaps else map(work, values))


def load_predictor(model: Network, inference: Inference, device: str | None = None) -> Predictor:
    """Put the network on a device, by itself on a GPU that is there; on a CPU with one thread: each core has a process.

    On a CPU this process keeps from then on the memory that it frees.

    Args:
        model: the network.
        inference: how it is run.
        device: cuda or cpu.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory()
    return Predictor(model, inference, device)


def _any(_: Item) -> bool:
    return True


def _refined_here(item: Item) -> bool:
    return item.refined_here
