"""The graph of the main job: manifest -> fetch -> segment (GPU actors) -> refine (CPU actors) -> finished blocks."""

import socket
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import ray
import torch
from ray.data import ActorPoolStrategy, Dataset

from pipeline.batch.fetch import ManifestDatasource
from pipeline.batch.manifest import Manifest
from pipeline.batch.preflight import Preflight
from pipeline.batch.refine_stage import RefineStage
from pipeline.batch.remote_tracker import RemoteTracker
from pipeline.batch.segment_stage import SegmentStage, load_predictor
from pipeline.errors import RunError
from pipeline.models import Inference, Network, Predictor
from pipeline.runtime.errors import as_raised
from pipeline.runtime.plan import CPU_BATCH, Plan


def finished_blocks(
    ready: Preflight, manifest: Manifest, plan: Plan, tracker: RemoteTracker
) -> Generator[Any, None, None]:
    """Run the graph until it ends or is closed; yields references to blocks of schema FINISHED as they are done."""
    config, model = ready.config, ready.model
    images = ray.data.read_datasource(
        ManifestDatasource(ready.source, manifest.uri, manifest.chunks, tracker),
        num_cpus=0,
        concurrency=plan.fetchers,
        override_num_blocks=len(manifest.chunks),
    )
    described = (model.classes, model.palette, model.geometry, config.max_pixels, tracker)
    if plan.refiners:
        logits = logits_of(images, model, config.inference, config.max_pixels, plan, tracker)
        finished = logits.map_batches(
            RefineStage,
            fn_constructor_args=(ready.refiner, *described),
            batch_size=CPU_BATCH,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=plan.refiners),
            num_cpus=plan.refiner_cpus,
        )
    else:
        then = partial(RefineStage, ready.refiner.on_gpu() or ready.refiner, *described)
        finished = logits_of(images, model, config.inference, config.max_pixels, plan, tracker, then)
    with as_raised():
        for bundle in finished.iter_internal_ref_bundles():
            yield from bundle.blocks


def logits_of(
    images: Dataset,
    model: Network,
    inference: Inference,
    max_pixels: int,
    plan: Plan,
    tracker: RemoteTracker,
    then: Callable[[], RefineStage] | None = None,
) -> Dataset:
    """Run the network on `images`, a dataset of schema FETCHED, in SegmentStages; gives one of schema LOGITS.

    With `then`, a RefineStage that lives in the same actors finishes the rows: the schema is FINISHED.
    """
    weights = ray.put(model)  # read once, here; every SegmentStage takes its copy from the object store
    return images.map_batches(
        SegmentStage,
        fn_constructor_args=(partial(_predictor, weights, inference), max_pixels, tracker, then),
        batch_size=plan.segmenter_batch,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=plan.segmenters),
        num_cpus=plan.segmenter_cpus,
        num_gpus=plan.segmenter_gpus,
    )


def _predictor(weights: Any, inference: Inference) -> Predictor:
    if ray.get_runtime_context().get_accelerator_ids().get("GPU") and not torch.cuda.is_available():
        raise RunError(
            f"Ray gives a GPU of {socket.gethostname()}, and torch sees none there; see whether its driver is new "
            "enough for this torch, and whether the container may use it"
        )
    return load_predictor(ray.get(weights), inference)
