"""The stage that scores: encoded images and their logits in, counts out. It refines as the main job does."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import pyarrow as pa
import torch

from pipeline import masks
from pipeline.batch.refine_stage import RefineStage
from pipeline.batch.tracker import LocalTracker, Tracker
from pipeline.data import rows
from pipeline.evaluation.labelled import Labelled
from pipeline.evaluation.mask_counts import COUNTED, Counting, MaskCounts
from pipeline.models import Network
from pipeline.refine import Argmax, Refiner

NETWORK, REFINED = "network", "refined"
"""The two kinds of mask: the network's own, and the refined ones."""


class Scorer:
    """Count a batch's masks of each kind against the truth."""

    def __init__(self, stages: Mapping[str, RefineStage], labelled: Labelled, how: Counting) -> None:
        """Take a RefineStage for each kind of mask, and the truth."""
        torch.set_num_threads(1)  # each core has a process
        self._stages, self._dataset, self._how = stages, labelled.dataset, how
        self._index = labelled.index()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Turn a table LOGITS into a table COUNTED with a row for each kind of mask."""
        return rows.table([self._count(kind, batch) for kind in self._stages], COUNTED)

    def _count(self, kind: str, batch: pa.Table) -> dict[str, Any]:
        counts = MaskCounts(self._how)
        for row in chain.from_iterable(table.to_pylist() for table in self._stages[kind](batch)):
            if row["error"] is None:
                _, truth = self._dataset.pair(self._index[row["key"]])
                counts.update(row["key"], truth, masks.decode(row["mask"]["bytes"]))
            else:
                counts.failed.append(f"{row['key']}: {row['message']}")
        return counts.to_row(kind)


def kinds(refiner: Refiner) -> dict[str, Refiner]:
    """Give a refiner for each kind of mask: the plain argmax, and `refiner` where its masks are others."""
    plain = Argmax()
    return {NETWORK: plain} if refiner.fingerprint() == plain.fingerprint() else {NETWORK: plain, REFINED: refiner}


def refine_stages(
    refiners: Mapping[str, Refiner], model: Network, max_pixels: int, tracker: Tracker
) -> dict[str, RefineStage]:
    """Make the main job's stage of each refiner.

    Only the last notes in `tracker` what it works on: a second would clear the attempts of the first.
    """
    *before, last = refiners
    trackers: dict[str, Tracker] = dict.fromkeys(before, LocalTracker()) | {last: tracker}
    return {
        kind: RefineStage(refiner, model.classes, model.palette, model.geometry, max_pixels, trackers[kind])
        for kind, refiner in refiners.items()
    }
