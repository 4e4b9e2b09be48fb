"""Refinement beside the network, on the same GPU: of which images, by what, and what is measured of it."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pipeline.batch.balance import ON_GPU, Balance, GpuCosts
from pipeline.batch.mask_columns import MaskColumns
from pipeline.batch.rows import FINISHED, SEGMENTED
from pipeline.batch.steps import each
from pipeline.batch.tracker import Finished, Tracker
from pipeline.data.rows import Row
from pipeline.geometry import Geometry
from pipeline.models.preprocessing import Image
from pipeline.models.transfer import OnDevice, OwnStream
from pipeline.refine import GpuRefiner, Refinement


class Uploaded(NamedTuple):
    """Hold a picture (H, W, 3) uint8 on the host, and what the network sees of it on the device, perhaps resized."""

    image: Image
    seen: OnDevice


class Computed(NamedTuple):
    """Hold a picture and its logits (C, h, w), these on the device."""

    picture: Uploaded
    logits: OnDevice


class Made(NamedTuple):
    """Hold what refinement gave, and the seconds that it took on the GPU, beside the network's passes."""

    refinement: Refinement
    seconds: float


@dataclass
class _Batch:
    """Follow a batch: when it began, its images, and the seconds that the GPU has refined."""

    began: float
    images: int
    refinement_seconds: float = 0.0


class GpuRefinement:
    """Makes masks where the logits are: only masks and counts come back to the host.

    It makes all of them, or with a Balance those that the CPUs cannot take.
    """

    def __init__(
        self,
        refiner: GpuRefiner,
        classes: Sequence[str],
        palette: NDArray[np.uint8],
        geometry: Geometry,
        balance: Balance | None = None,
        confidence_map: bool = False,
    ) -> None:
        """Take the refiner for a process with a GPU, where the logits lie, and what RefineStage takes for the masks."""
        self._refiner, self._geometry, self._balance = refiner, geometry, balance
        self._columns = MaskColumns(classes, palette, confidence_map)
        self._stream = OwnStream()
        self._images, self._for_cpus, self._seen = 1, 0, 0  # of the batch: all, those for CPUs, those asked about
        self._batch: _Batch | None = None  # the last that was shared with the CPUs
        self._refinement_seconds = 0.0  # of an image, as last measured

    @property
    def schema(self) -> pa.Schema:
        """Return the schema of what a stage hands on that refines in this way."""
        return SEGMENTED if self._balance else FINISHED

    @property
    def is_last(self) -> bool:
        """Tell whether no other stage comes behind."""
        return self._balance is None

    def open(self) -> None:
        """Open the GPU where this lives. Raises CRFError."""
        self._refiner.open()

    def share(self, images: int, tracker: Tracker) -> None:
        """Decide how many of a batch of `images`, which comes now, go to the CPUs."""
        if self._balance:
            costs, self._batch = self._costs(), _Batch(time.monotonic(), images)
            self._images, self._seen = images, 0
            self._for_cpus = self._balance.for_cpus(images, tracker.backlog(), costs)

    def _costs(self) -> GpuCosts | None:
        """Give what an image of the last batch took of this worker, waiting included."""
        if not self._batch:
            return None
        seconds = time.monotonic() - self._batch.began - self._batch.refinement_seconds
        return GpuCosts(max(0.0, seconds / self._batch.images), self._refinement_seconds)

    def takes(self) -> bool:
        """Tell whether the next image is refined here: those for the CPUs lie evenly in a batch, so in its parcels."""
        before, self._seen = self._seen, self._seen + 1
        return math.ceil(self._for_cpus * before / self._images) == math.ceil(
            self._for_cpus * self._seen / self._images
        )

    def refine(self, computed: Sequence[Computed]) -> list[Made | Computed | Exception]:
        """Refine pictures on the device; gives of each what was made, or the error that it alone ends in.

        What the device's memory cannot hold comes back as it was where CPUs refine too: it is theirs.
        """
        results = each(self._refined)(computed)
        if self.is_last:
            return list(results)
        too_large = [isinstance(result, torch.OutOfMemoryError) for result in results]
        return [one if large else result for one, large, result in zip(computed, too_large, results, strict=True)]

    def _refined(self, computed: Sequence[Computed]) -> list[Made]:
        for one in computed:
            one.picture.seen.wait()
            one.logits.wait()  # so that what follows is the refiner's own time
        began = time.monotonic()
        seen, logits = [one.picture.seen.tensor for one in computed], [one.logits.tensor for one in computed]
        is_there = self._geometry.resize is None  # the picture, in its own size
        with self._stream.working_on([*seen, *logits]):
            refinements = self._refiner.refine(
                seen if is_there else [one.picture.image for one in computed], logits, self._geometry
            )
        seconds = (time.monotonic() - began) / len(computed)
        return [Made(refinement, seconds) for refinement in refinements]

    def columns(self, made: Made) -> Row:
        """Encode a mask, and describe it."""
        return self._columns.of(made.refinement)

    def report(self, tracker: Tracker, refined: Mapping[str, Made]) -> None:
        """Report the images of a unit of work, by key, that were refined here."""
        if not refined:
            return
        seconds = sum(made.seconds for made in refined.values())
        kept = sum(made.refinement.kept for made in refined.values())
        tracker.end(ON_GPU, list(refined), seconds, Finished([], 0, kept))
        if self._batch:
            self._batch.refinement_seconds += seconds
            self._refinement_seconds = seconds / len(refined)
