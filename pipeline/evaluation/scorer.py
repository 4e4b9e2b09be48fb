"""The stage that scores: encoded images and their logits in, counts out. It refines as the main job does."""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import torch

from pipeline import masks
from pipeline.batch.isolation import Isolation
from pipeline.batch.refine_stage import RefineStage
from pipeline.batch.tracker import LocalTracker, Tracker
from pipeline.data import rows
from pipeline.evaluation.labelled import Labelled
from pipeline.evaluation.mask_counts import COUNTED, Counting, MaskCounts
from pipeline.models import Network
from pipeline.refine import Argmax, Refiner

NETWORK, REFINED = "network", "refined"
"""The two kinds of mask: the network's own, and the refined ones."""


_SCORED = pa.schema([pa.field("key", pa.string()), *rows.FAILURE_FIELDS])


class Scorer:
    """Count a batch's masks of each kind against the truth.

    Whatever of this takes its worker down with a picture, a refiner or the counting, that picture is given up.
    """

    def __init__(self, stages: Mapping[str, RefineStage], labelled: Labelled, how: Counting, tracker: Tracker) -> None:
        """Take a RefineStage for each kind of mask, the truth, and what notes the pictures that are worked on."""
        torch.set_num_threads(1)  # each core has a process
        self._stages, self._dataset, self._how = stages, labelled.dataset, how
        self._index = labelled.index()
        self._isolation = Isolation("score", tracker)
        self._counts: dict[str, MaskCounts] = {}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Turn a table LOGITS into a table COUNTED with a row for each kind of mask."""
        self._counts = {kind: MaskCounts(self._how) for kind in self._stages}
        scored = pa.concat_tables(self._isolation.run(batch, self._score, _SCORED))
        for row in scored.to_pylist():
            if row["error"] is not None:
                for counts in self._counts.values():
                    counts.failed.append(f"{row['key']}: {row['message']}")
        return rows.table([counts.to_row(kind) for kind, counts in self._counts.items()], COUNTED)

    def _score(self, units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for unit in units:
            for kind, stage in self._stages.items():
                self._count(self._counts[kind], pa.concat_tables(stage(unit)))
            yield unit.select(["key"])

    def _count(self, counts: MaskCounts, finished: pa.Table) -> None:
        for row in finished.to_pylist():
            if row["error"] is None:
                _, truth = self._dataset.pair(self._index[row["key"]])
                counts.update(row["key"], truth, masks.decode(row["mask"]["bytes"]))
            else:
                counts.failed.append(f"{row['key']}: {row['message']}")


def kinds(refiner: Refiner) -> dict[str, Refiner]:
    """Give a refiner for each kind of mask: the plain argmax, and `refiner` where its masks are others."""
    plain = Argmax()
    return {NETWORK: plain} if refiner.fingerprint() == plain.fingerprint() else {NETWORK: plain, REFINED: refiner}


def refine_stages(refiners: Mapping[str, Refiner], model: Network, max_pixels: int) -> dict[str, RefineStage]:
    """Make the main job's stage of each refiner. They note what they work on nowhere else: the Scorer does."""
    return {
        kind: RefineStage(refiner, model.classes, model.palette, model.geometry, max_pixels, LocalTracker())
        for kind, refiner in refiners.items()
    }
