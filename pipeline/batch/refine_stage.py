"""The stage that refines: encoded images and their logits in, masks out."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import images
from pipeline.batch.isolation import DEVICE_LOST, Isolation
from pipeline.batch.mask_columns import MaskColumns
from pipeline.batch.rows import FINISHED
from pipeline.batch.tracker import Finished, Tracker, finished_by
from pipeline.data import rows
from pipeline.data.grouping import decoded_together
from pipeline.data.rows import Row
from pipeline.errors import DeviceLostError
from pipeline.geometry import Geometry
from pipeline.logits import from_bytes
from pipeline.refine import Refiner


class RefineStage:
    """Turn logits into masks with a Refiner."""

    def __init__(
        self,
        refiner: Refiner,
        classes: Sequence[str],
        palette: NDArray[np.uint8],
        geometry: Geometry,
        max_pixels: int,
        tracker: Tracker,
        confidence_map: bool = False,
    ) -> None:
        """Take what names and colours the masks, the geometry of the logits, and whether to write confidence maps."""
        self._refiner = refiner
        self._columns = MaskColumns(classes, palette, confidence_map)
        self._geometry, self._max_pixels = geometry, max_pixels
        self._isolation = Isolation("refine", tracker)
        self._kept = 0  # labels, summed over the images that are not told of yet

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Turn a table LOGITS, or SEGMENTED, into tables FINISHED with the same keys in the same order."""
        self._kept = 0
        yield from self._isolation.run(batch, self._refine, FINISHED, self._finished)

    def _finished(self, done: pa.Table) -> Finished:
        kept, self._kept = self._kept, 0
        return finished_by(done, kept)

    def _refine(self, units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for unit in units:
            done = [row for group in decoded_together(unit.to_pylist()) for row in self._finish(group)]
            yield rows.table(done, FINISHED)

    def _finish(self, group: list[Row]) -> list[Row]:
        """Refine the group together; if that fails, one by one: what one image provokes must cost that image alone."""
        try:
            pictures = [images.decode(row["image"], self._max_pixels) for row in group]
            logits = [from_bytes(row["logits"], tuple(row["shape"])) for row in group]
            refinements = self._refiner.refine(pictures, logits, self._geometry)
        except DeviceLostError:
            os._exit(DEVICE_LOST)  # it fails every later image: leave the batch to a fresh process
        except Exception as error:
            if len(group) == 1:
                return [group[0] | rows.failure("refine", error)]
            return [done for row in group for done in self._finish([row])]
        self._kept += sum(refinement.kept for refinement in refinements)
        return [row | self._columns.of(refinement) for row, refinement in zip(group, refinements, strict=True)]
