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
    """Gives every image the same logits after a while."""

    seconds: ClassVar[float]
    shape: ClassVar[tuple[int, int, int]]

    def __init__(self, _load_predictor: Any, max_pixels: int, tracker: Tracker, _refinement: Any = None) -> None:
        """Take what the SegmentStage takes, and load nothing."""
        nothing: Any = None
        super().__init__(lambda: nothing, max_pixels, tracker)

    def _segment(self, units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for unit in units:
            time.sleep(self.seconds * unit.num_rows)
            logits = np.zeros(self.shape, np.float16).tobytes()
            constant = {"logits": [logits] * unit.num_rows, "shape": [self.shape] * unit.num_rows}
            made = unit
            for name, values in constant.items():
                made = made.append_column(LOGITS.field(name), pa.array(values, LOGITS.field(name).type))
            yield made


class SleepingRefineStage(RefineStage):
    """Gives every image the same mask after a while."""

    seconds: ClassVar[float]
    mask: ClassVar[NDArray[np.uint8]]

    def _refine(self, units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        height, width = self.mask.shape
        for unit in units:
            time.sleep(self.seconds * unit.num_rows)
            mask = {"bytes": masks.encode(self.mask, masks.pascal_palette(LABELS)), "path": None}
            made = {"height": height, "width": width, "mask": mask, "confidence": 1.0, "classes": []}
            kept = unit.select(["key", "source", "version", "digest"]).to_pylist()
            yield rows.table([row | made for row in kept], FINISHED)


def stages(
    mask: NDArray[np.uint8], segment_seconds: float, refine_seconds: float
) -> tuple[type[SleepingSegmentStage], type[SleepingRefineStage]]:
    """Make the two stages for images like `mask`, (H, W) uint8, each with the seconds it sleeps for an image."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call] # workers cannot import a benchmark
    height, width = (-(-side // STRIDE) + 1 for side in mask.shape)
    SleepingSegmentStage.seconds, SleepingSegmentStage.shape = segment_seconds, (LABELS, height, width)
    SleepingRefineStage.seconds, SleepingRefineStage.mask = refine_seconds, mask
    return SleepingSegmentStage, SleepingRefineStage
