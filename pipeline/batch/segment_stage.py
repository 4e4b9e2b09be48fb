"""The SegmentStage: encoded images in, logits on the network's own grid out."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from pipeline import images
from pipeline.batch.isolation import DEVICE_LOST, run_isolated
from pipeline.batch.rows import LOGITS
from pipeline.batch.tracker import Tracker
from pipeline.data import rows
from pipeline.data.grouping import decoded_together
from pipeline.errors import ImageError
from pipeline.logits import to_bytes
from pipeline.models import Inference, Predictor, SegmentationModel

_DECODERS = 4

Row = dict[str, Any]
Image = NDArray[np.uint8]


class SegmentStage:
    """Runs the network. One lives on each GPU, or on a CPU core where there is none.

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
        self._tracker = tracker
        self._decoders = ThreadPoolExecutor(_DECODERS)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Turn a table FETCHED into a table LOGITS with the same keys, or into what the next stage makes of that."""
        live = pc.is_null(batch.column("error"))
        parts = run_isolated("segment", batch.filter(live), self._segment, self._tracker)
        parts.append(batch.filter(pc.invert(live)))
        segmented = pa.concat_tables([rows.widened(part, LOGITS) for part in parts])
        return self._next(segmented) if self._next else segmented

    def _segment(self, batch: pa.Table) -> pa.Table:
        done = [row for group in decoded_together(batch.to_pylist()) for row in self._segment_group(group)]
        return rows.table(done, LOGITS)

    def _segment_group(self, group: list[Row]) -> list[Row]:
        decoded = list(self._decoders.map(self._decode, group))
        readable = [(row, image) for row, image in zip(group, decoded, strict=True) if not isinstance(image, Exception)]
        failed = [
            _failed(row, "decode", error)
            for row, error in zip(group, decoded, strict=True)
            if isinstance(error, Exception)
        ]
        return failed + self._logits([row for row, _ in readable], [image for _, image in readable])

    def _decode(self, row: Row) -> Image | ImageError | MemoryError:
        try:
            return images.decode(row["image"], self._max_pixels)
        except (ImageError, MemoryError) as error:
            return error

    def _logits(self, group: list[Row], pictures: Sequence[Image]) -> list[Row]:
        """Run the network on the group together; if that fails, one by one, so that only the image at fault fails."""
        try:
            logits = self._predictor.logits(pictures)
        except torch.AcceleratorError:
            os._exit(DEVICE_LOST)  # this process's device fails every later image: leave the batch to a fresh process
        except Exception as error:
            if len(group) == 1:
                return [_failed(group[0], "segment", error)]
            return [
                done for row, picture in zip(group, pictures, strict=True) for done in self._logits([row], [picture])
            ]
        return [row | {"logits": to_bytes(grid), "shape": grid.shape} for row, grid in zip(group, logits, strict=True)]


def load_predictor(model: SegmentationModel, inference: Inference) -> Predictor:
    """Put the network on this process's device; on a CPU with one thread, since each core has a process."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    return Predictor(model, inference, device)


def _failed(row: Row, stage: str, error: Exception) -> Row:
    return row | {"image": None} | rows.failure(stage, error)
