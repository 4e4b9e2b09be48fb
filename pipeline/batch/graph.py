"""The graph of the main job: manifest -> fetch -> segment (GPU actors) -> refine (CPU actors) -> finished blocks."""

import socket
from collections.abc import Generator
from functools import partial
from typing import Any

import ray
import torch
from ray.data import ActorPoolStrategy, Dataset

from pipeline.batch.balance import Balance
from pipeline.batch.fetch import ManifestDatasource
from pipeline.batch.gpu_refinement import GpuRefinement
from pipeline.batch.manifest import Manifest
from pipeline.batch.parcels import parcelled
from pipeline.batch.preflight import Preflight
from pipeline.batch.refine_stage import RefineStage
from pipeline.batch.remote_tracker import RemoteTracker
from pipeline.batch.segment_stage import SegmentStage, load_predictor
from pipeline.errors import RunError
from pipeline.models import Inference, Network, Predictor
from pipeline.runtime.errors import as_raised
from pipeline.runtime.plan import Plan


def finished_blocks(
    ready: Preflight, manifest: Manifest, plan: Plan, tracker: RemoteTracker
) -> Generator[Any, None, None]:
    """Run the graph until it ends or is closed; yields references to parcels of schema FINISHED as they are done."""
    config, model = ready.config, ready.load()
    images = ray.data.read_datasource(
        ManifestDatasource(ready.source, manifest.uri, manifest.chunks, tracker, plan.parcel),
        num_cpus=0,
        concurrency=plan.fetchers,
        override_num_blocks=len(manifest.chunks),
    )
    refinement = _refinement(ready, plan)
    finished = logits_of(images, model, config.inference, config.max_pixels, plan, tracker, refinement)
    if plan.refiners:
        finished = finished.map_batches(
            parcelled(RefineStage, plan.refiner_batch),
            fn_constructor_args=(
                ready.refiner,
                model.classes,
                model.palette,
                model.geometry,
                config.max_pixels,
                tracker,
                config.confidence_map,
            ),
            batch_size=1,
            batch_format="pyarrow",
            compute=pool(plan.refiners, plan.most_refiners),
            num_cpus=plan.refiner_cpus,
            memory=plan.refiner_memory,
        )
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
    refinement: GpuRefinement | None = None,
) -> Dataset:
    """Run the network on `images`, parcels of schema FETCHED, in SegmentStages; gives parcels of schema LOGITS.

    With `refinement` they make masks as well, and the schema is that of the refinement.
    """
    weights = ray.put(model)  # read once, here; every SegmentStage takes its copy from the object store
    return images.map_batches(
        parcelled(SegmentStage, plan.refiner_batch if plan.refiners else plan.segmenter_batch),
        fn_constructor_args=(partial(_predictor, weights, inference), max_pixels, tracker, refinement),
        batch_size=plan.segmenter_batch // plan.parcel,
        batch_format="pyarrow",
        compute=pool(plan.segmenters, plan.most_segmenters),
        num_cpus=plan.segmenter_cpus,
        num_gpus=plan.segmenter_gpus,
        memory=plan.segmenter_memory,
    )


def pool(first: int, most: int) -> ActorPoolStrategy:
    """Make a pool of `first` actors that grows, where machines join, to `most`."""
    return (
        ActorPoolStrategy(size=first)
        if most == first
        else ActorPoolStrategy(min_size=1, initial_size=first, max_size=most)
    )


def _refinement(ready: Preflight, plan: Plan) -> GpuRefinement | None:
    """Give what GPUs refine with, where the plan has them do it."""
    on_gpu, model = ready.refiner.on_gpu() if plan.gpus_refine else None, ready.load()
    if on_gpu is None:
        return None
    wanted = ready.config.confidence_map
    return GpuRefinement(on_gpu, model.classes, model.palette, model.geometry, balance(plan), wanted)


def balance(plan: Plan) -> Balance | None:
    """Give how the plan's GPUs and CPUs share the refinement; None where one of them does it alone."""
    if not (plan.gpus_refine and plan.refiners):
        return None
    return Balance(segmenters=plan.segmenters, refiners=plan.refiners)


def _predictor(weights: Any, inference: Inference) -> Predictor:
    has_gpu = bool(ray.get_runtime_context().get_accelerator_ids().get("GPU"))
    if has_gpu and not torch.cuda.is_available():
        raise RunError(
            f"Ray gives a GPU of {socket.gethostname()}, and torch sees none there; see whether its driver is new "
            "enough for this torch, and whether the container may use it"
        )
    return load_predictor(ray.get(weights), inference, "cuda" if has_gpu else "cpu")  # of others' GPUs it takes none
