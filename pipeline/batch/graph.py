"""The graph of the main job: manifest -> fetch -> Segmenter (GPU actors) -> Refiner (CPU actors) -> finished blocks."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext

from pipeline.batch.config import RunConfig
from pipeline.batch.fetch import ManifestDatasource
from pipeline.batch.in_flight import InFlight
from pipeline.batch.manifest import Manifest
from pipeline.batch.refiner import Refiner
from pipeline.batch.resources import Plan
from pipeline.batch.segmenter import Segmenter
from pipeline.batch.source import Source
from pipeline.crf import CRFParams, DenseCRF
from pipeline.models import SegmentationModel
from pipeline.models.inference import Predictor

GPU_BATCH = 16
CPU_BATCH = 4


class RemoteWatch:
    """InFlight, living in an actor of its own, as the stages see it."""

    def __init__(self, actor: Any) -> None:
        """Watch through the handle of an InFlight actor."""
        self._actor = actor

    def strikes(self, stage: str, keys: Sequence[str]) -> list[int]:
        """See InFlight."""
        return ray.get(self._actor.strikes.remote(stage, keys))  # type: ignore[no-any-return]

    def begin(self, stage: str, keys: Sequence[str]) -> None:
        """See InFlight; waits, since a worker that dies right after must have been noted."""
        ray.get(self._actor.begin.remote(stage, keys))

    def end(self, stage: str, keys: Sequence[str]) -> None:
        """See InFlight."""
        self._actor.end.remote(stage, keys)

    def count(self, finished: int, failed: int) -> None:
        """See InFlight."""
        self._actor.count.remote(finished, failed)


def start_watch() -> Any:
    """The actor that keeps InFlight for a run."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(InFlight).remote()


def finished_blocks(
    config: RunConfig,
    source: Source,
    manifest: Manifest,
    model: SegmentationModel,
    crf: CRFParams | None,
    plan: Plan,
    watch: Any,
) -> Iterator[Any]:
    """Run the graph; yields references to blocks of schema FINISHED as they are done."""
    weights = ray.put(model)  # read once, here; every Segmenter takes its copy from the object store
    images = ray.data.read_datasource(
        ManifestDatasource(source, manifest.uri, manifest.chunks),
        num_cpus=0,
        concurrency=plan.fetchers,
        override_num_blocks=len(manifest.chunks),
    )
    scores = images.map_batches(
        Segmenter,
        fn_constructor_args=(partial(_predictor, weights, config), config.max_pixels, RemoteWatch(watch)),
        batch_size=GPU_BATCH if plan.segmenter_gpus else CPU_BATCH,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=plan.segmenters),
        num_cpus=plan.segmenter_cpus,
        num_gpus=plan.segmenter_gpus,
    )
    finished = scores.map_batches(
        Refiner,
        fn_constructor_args=(
            partial(_crf, crf, config),
            model.classes,
            model.palette,
            model.stride,
            config.max_pixels,
            RemoteWatch(watch),
        ),
        batch_size=CPU_BATCH,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=plan.refiners),
        num_cpus=plan.refiner_cpus,
    )
    for bundle in finished.iter_internal_ref_bundles():
        yield from bundle.blocks


def configure(block_bytes: int) -> None:
    """Set up Ray Data for this run: quiet, blocks of about `block_bytes`, and no failed block ever forgiven."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is raised, and then told once
    warnings.filterwarnings("ignore", module=r"ray\.data")  # that a small bucket cannot fill every worker
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = block_bytes
    context.max_errored_blocks = 0


def _predictor(weights: Any, config: RunConfig) -> Predictor:
    """The network on this actor's device, one thread where actors share the cores."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    return Predictor(ray.get(weights), config.inference, torch.device(device))


def _crf(params: CRFParams | None, config: RunConfig) -> DenseCRF | None:
    return DenseCRF(params, backend=config.refine.backend) if params else None
