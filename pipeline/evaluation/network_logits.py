"""The network's logits of labelled pictures, computed once and kept in the cluster's memory as float16."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from pipeline.batch.parcels import as_parcel, unpacked
from pipeline.batch.remote_tracker import RemoteTracker
from pipeline.errors import RunError
from pipeline.evaluation import graph
from pipeline.evaluation.labelled import Labelled
from pipeline.geometry import Geometry
from pipeline.logits import estimated_bytes, from_bytes
from pipeline.metrics import SegmentationScore
from pipeline.models import Inference, Network
from pipeline.refine import Refiner
from pipeline.refine.crf import DenseCRF
from pipeline.runtime.cluster import plan_when_free
from pipeline.runtime.errors import as_raised
from pipeline.runtime.plan import ASSUMED_BYTES
from pipeline.runtime.progress import say
from pipeline.runtime.tasks import task_results


@dataclass(frozen=True, kw_only=True)
class NetworkLogits:
    """Keep the logits of every picture.

    Attributes:
        blocks: references to parcels of schema LOGITS without the images.
        places: (block, row, index in the dataset) of each picture.
        labelled: reference to the Labelled pictures.
        classes: how many.
        geometry: of the grids in their pictures.
    """

    blocks: tuple[Any, ...]
    places: tuple[tuple[int, int, int], ...]
    labelled: Any
    classes: int
    geometry: Geometry

    def __len__(self) -> int:
        return len(self.places)

    def matrices(self, refiners: Sequence[Refiner]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Compute the confusion matrix (C, C) of every picture with every refiner, a Ray task each.

        Yields:
            the refiner's index, and the matrix.
        """
        tasks = (
            _count.remote(self.blocks[block], row, self.labelled, index, self.geometry, self.classes, refiner)
            for refiner in refiners
            for block, row, index in self.places
        )
        indices = (number for number in range(len(refiners)) for _ in self.places)
        return zip(indices, task_results(tasks), strict=True)


def _without_images(parcels: pa.Table) -> pa.Table:
    return as_parcel(unpacked(parcels).select(["key", "logits", "shape", "error", "message"]))


@ray.remote
def _count(
    parcel: pa.Table, row: int, labelled: Labelled, index: int, geometry: Geometry, classes: int, refiner: Refiner
) -> NDArray[np.int64]:
    torch.set_num_threads(1)  # each core has a task
    image, truth = labelled.dataset.pair(index)
    block = unpacked(parcel)
    logits = from_bytes(block["logits"][row].as_py(), tuple(block["shape"][row].as_py()))
    [refinement] = refiner.refine([image], [logits], geometry)
    counted = SegmentationScore(classes)
    counted.update(truth, refinement.mask)
    return counted.matrix


def network_logits(labelled: Labelled, model: Network, inference: Inference) -> NetworkLogits:
    """Run the network over the pictures, by the main job's SegmentStage.

    Raises:
        RunError: the cluster is too small or busy, or a picture could not be segmented.
    """
    classes = len(model.classes)
    logits_bytes = estimated_bytes(classes, model.geometry, ASSUMED_BYTES)
    plan = plan_when_free(DenseCRF().memory(classes)).for_images(len(labelled), logits_bytes=logits_bytes)
    say(f"{len(labelled)} labelled images; plan: {plan}")
    tracker = RemoteTracker()
    logits = graph.logits_of(labelled, model, inference, plan, tracker)
    with as_raised():
        done = logits.map_batches(_without_images, batch_size=1, batch_format="pyarrow", num_cpus=0).materialize()
    tracker.stop()
    blocks = tuple(block.ref for bundle in done.iter_internal_ref_bundles() for block in bundle.blocks)
    index, places, failed = labelled.index(), [], []
    for number, rows in enumerate(task_results(_outcome.remote(block) for block in blocks)):
        for row, (key, problem) in enumerate(rows):
            places.append((number, row, index[key]))
            failed += [f"{key}: {problem}"] if problem else []
    if failed:
        raise RunError(f"{len(failed)} of {len(labelled)} images could not be segmented:\n  " + "\n  ".join(failed))
    return NetworkLogits(
        blocks=blocks,
        places=tuple(sorted(places, key=lambda place: place[-1])),
        labelled=ray.put(labelled),
        classes=classes,
        geometry=model.geometry,
    )


@ray.remote
def _outcome(parcel: pa.Table) -> list[tuple[str, str | None]]:
    """List key and problem of each row."""
    block = unpacked(parcel)
    return list(zip(block["key"].to_pylist(), block["message"].to_pylist(), strict=True))
