"""Stages that sleep instead of working, between which real bytes travel: what is left of a run is the graph."""

import sys
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import ray.cloudpickle
from numpy.typing import NDArray

from pipeline import masks
from pipeline.batch.refine_stage import RefineStage
from pipeline.batch.rows import FINISHED, LOGITS
from pipeline.batch.segment_stage import SegmentStage
from pipeline.batch.tracker import Tracker
from pipeline.data import rows

LABELS, STRIDE = 21, 8


class SleepingSegmentStage(SegmentStage):
    """Gives every image the same logits after a while, or the same mask where its GPU refines."""

    seconds: ClassVar[float]
    shape: ClassVar[tuple[int, int, int]]
    made: ClassVar[rows.Row]

    def __init__(self, _load_predictor: Any, max_pixels: int, tracker: Tracker, refinement: Any = None) -> None:
        """Take what the SegmentStage takes; load nothing, and open no GPU."""
        nothing: Any = None
        super().__init__(lambda: nothing, max_pixels, tracker)
        self._refinement = refinement
        self._schema = refinement.schema if refinement else LOGITS

    def _segment(self, units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for unit in units:
            time.sleep(self.seconds * unit.num_rows)
            yield _with_mask(unit, self.made) if self._refinement else self._with_logits(unit)

    def _with_logits(self, unit: pa.Table) -> pa.Table:
        logits = np.zeros(self.shape, np.float16).tobytes()
        constant = {"logits": [logits] * unit.num_rows, "shape": [self.shape] * unit.num_rows}
        for name, values in constant.items():
            unit = unit.append_column(LOGITS.field(name), pa.array(values, LOGITS.field(name).type))
        return unit


class SleepingRefineStage(RefineStage):
    """Gives every image the same mask after a while."""

    seconds: ClassVar[float]
    made: ClassVar[rows.Row]

    def _refine(self, units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for unit in units:
            time.sleep(self.seconds * unit.num_rows)
            yield _with_mask(unit, self.made)


def _with_mask(unit: pa.Table, made: rows.Row) -> pa.Table:
    kept = unit.select(["key", "source", "version", "digest"]).to_pylist()
    return rows.table([row | made for row in kept], FINISHED)


def stages(
    mask: NDArray[np.uint8], segment_seconds: float, refine_seconds: float
) -> tuple[type[SleepingSegmentStage], type[SleepingRefineStage]]:
    """Make the two stages for images like `mask`, (H, W) uint8, each with the seconds it sleeps for an image."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call] # workers cannot import a benchmark
    height, width = mask.shape
    encoded = {"bytes": masks.encode(mask, masks.pascal_palette(LABELS)), "path": None}
    made = {"height": height, "width": width, "mask": encoded, "confidence": 1.0, "classes": []}
    SleepingSegmentStage.seconds, SleepingRefineStage.seconds = segment_seconds, refine_seconds
    SleepingSegmentStage.shape = (LABELS, -(-height // STRIDE) + 1, -(-width // STRIDE) + 1)
    SleepingSegmentStage.made = SleepingRefineStage.made = made
    return SleepingSegmentStage, SleepingRefineStage
