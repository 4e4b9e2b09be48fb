"""The graph of an evaluation: labelled pictures -> SegmentStage -> Scorer -> counts, on Ray Data."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import ray
from ray.data import Dataset

from pipeline.batch import graph
from pipeline.batch.parcels import as_parcel, unpacked
from pipeline.batch.remote_tracker import RemoteTracker
from pipeline.evaluation.labelled import Labelled, LabelledDatasource
from pipeline.evaluation.mask_counts import Counting
from pipeline.evaluation.scorer import Scorer, refine_stages
from pipeline.images import DEFAULT_MAX_PIXELS
from pipeline.models import Inference, Network
from pipeline.refine import Refiner
from pipeline.runtime.errors import as_raised
from pipeline.runtime.plan import Plan


def logits_of(labelled: Labelled, model: Network, inference: Inference, plan: Plan, tracker: RemoteTracker) -> Dataset:
    """Run the network on all pictures: parcels of schema LOGITS, a dataset which runs when it is read."""
    images = ray.data.read_datasource(
        LabelledDatasource(labelled, plan.parcel),
        num_cpus=0,
        concurrency=plan.fetchers,
        override_num_blocks=len(labelled),
    )
    return graph.logits_of(images, model, inference, DEFAULT_MAX_PIXELS, plan, tracker)


def counted(
    logits: Dataset,
    labelled: Labelled,
    model: Network,
    refiners: Mapping[str, Refiner],
    how: Counting,
    plan: Plan,
    tracker: RemoteTracker,
) -> Iterator[dict[str, Any]]:
    """Run the graph; yields rows of schema COUNTED as they are done, and nothing larger comes to this process.

    Args:
        logits: parcels of schema LOGITS.
        labelled: the truth.
        model: which made the logits.
        refiners: by kind of mask.
        how: what is counted.
        plan: the actors.
        tracker: notes what is being worked on.

    Raises:
        RunError: the graph failed.
    """
    counts = logits.map_batches(
        ScoreStage,
        fn_constructor_args=(refine_stages(refiners, model, DEFAULT_MAX_PIXELS), labelled, how, tracker),
        batch_size=1,
        batch_format="pyarrow",
        compute=graph.pool(plan.refiners, plan.most_refiners),
        num_cpus=plan.refiner_cpus,
        memory=plan.refiner_memory,
    )
    with as_raised():
        for bundle in counts.iter_internal_ref_bundles():
            for block in bundle.blocks:
                yield from unpacked(ray.get(block.ref)).to_pylist()


class ScoreStage(Scorer):
    """A Scorer of parcels."""

    def __call__(self, parcels: pa.Table) -> pa.Table:
        """Turn parcels of LOGITS into one of COUNTED."""
        return as_parcel(super().__call__(unpacked(parcels)))
