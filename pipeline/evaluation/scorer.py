"""The Scorer stage: encoded images and their scores in, counts out. It refines as the main job does."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pipeline import masks
from pipeline.batch.refine_stage import RefineStage
from pipeline.batch.tracker import LocalTracker, Tracker
from pipeline.data import rows
from pipeline.evaluation.labelled import Labelled
from pipeline.evaluation.mask_counts import COUNTED, Counting, MaskCounts
from pipeline.models import SegmentationModel
from pipeline.refine.crf import DenseCRF

NETWORK, REFINED = "network", "refined"
"""The two kinds of mask: before and after the CRF."""


class Scorer:
    """Counts a batch's masks against the truth, before the CRF and, where there is one, after it. Lives on CPUs."""

    def __init__(self, refiners: dict[str, RefineStage], labelled: Labelled, how: Counting) -> None:
        """Take a RefineStage for each kind of mask, and where the truth is."""
        torch.set_num_threads(1)  # each core has a process
        self._refiners, self._library, self._how = refiners, labelled.dataset, how
        self._index = labelled.index()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Table LOGITS -> table COUNTED with a row for each kind of mask."""
        return rows.table([self._count(kind, batch) for kind in self._refiners], COUNTED)

    def _count(self, kind: str, batch: pa.Table) -> dict[str, Any]:
        counts = MaskCounts(self._how)
        for row in self._refiners[kind](batch).to_pylist():
            if row["error"] is None:
                _, truth = self._library.pair(self._index[row["key"]])
                counts.update(truth, masks.decode(row["mask"]["bytes"]))
            else:
                counts.failed.append(f"{row['key']}: {row['message']}")
        return counts.to_row(kind)


def refiners(
    crf: DenseCRF | None, model: SegmentationModel, max_pixels: int, tracker: Tracker
) -> dict[str, RefineStage]:
    """The main job's Refiners for each kind of mask: the network's own, and where there is a CRF the refined ones.

    Only the last notes in `tracker` what it works on: a second would clear the attempts that the first has noted.
    """
    palette: NDArray[np.uint8] = model.palette

    def refiner(crf: DenseCRF | None, tracker: Tracker) -> RefineStage:
        return RefineStage(crf, model.classes, palette, model.stride, max_pixels, tracker)

    if crf is None:
        return {NETWORK: refiner(None, tracker)}
    return {NETWORK: refiner(None, LocalTracker()), REFINED: refiner(crf, tracker)}
