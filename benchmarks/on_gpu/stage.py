"""Images a second of the pipeline's own stage, from encoded pictures to logits and to masks; how busy the GPU is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.profiler import ProfilerActivity, profile

from benchmarks.on_gpu.clock import peak_mebibytes
from benchmarks.on_gpu.figures import Figure
from benchmarks.on_gpu.pictures import jpeg
from pipeline import models
from pipeline.batch.gpu_refinement import GpuRefinement
from pipeline.batch.segment_stage import SegmentStage
from pipeline.batch.tracker import LocalTracker
from pipeline.data import rows
from pipeline.images import DEFAULT_MAX_PIXELS
from pipeline.refine.crf import CRFParams
from pipeline.refine.crf.cuda.refiner import CudaCRF


@dataclass(frozen=True, kw_only=True)
class StageLoad:
    """Say what is measured: a network by its short name, and how many pictures it gets, in batches of some."""

    network: str = "resnet101-aspp"
    classes: int = 21
    batch: int = 256
    warm_up: int = 20  # batches: the network is compiled after its first hundred passes
    batches: int = 4
    iterations: int = 10


TINY = StageLoad(network="light", classes=3, batch=2, warm_up=1, batches=1, iterations=1)


def measure(images: Sequence[NDArray[np.uint8]], load: StageLoad, device: torch.device) -> Iterator[Figure]:
    """Measure the stage with the network alone, then with the dense CRF on the same device."""
    model = models.build(load.network, tuple(f"class_{number}" for number in range(load.classes))).eval()
    crf = CudaCRF(replace(CRFParams(), iterations=load.iterations), 0.01, str(device))
    refinement = GpuRefinement(crf, model.classes, model.palette, model.geometry)
    batch = _encoded(images, load.batch)
    for what, also in (("network", None), ("network and CRF", refinement)):
        predictor = partial(models.Predictor, model, models.Inference(), device)
        stage = SegmentStage(predictor, DEFAULT_MAX_PIXELS, LocalTracker(), also)
        for _ in range(load.warm_up):
            _run(stage, batch)
        peak_mebibytes(device)
        rates = []
        for _ in range(load.batches):
            started = perf_counter()
            _run(stage, batch)
            rates.append(load.batch / (perf_counter() - started))
        name = f"stage, {load.network}, {what}"
        yield Figure(what=name, values=rates, unit="images/s", mebibytes=peak_mebibytes(device))
        if device.type == "cuda":
            yield Figure(what=f"{name}: device busy", values=[_busy(partial(_run, stage, batch))], unit="of the time")


def _encoded(images: Sequence[NDArray[np.uint8]], count: int) -> pa.Table:
    files = [jpeg(image) for image in images]
    return rows.table(
        [
            {"key": str(number), "source": "", "version": "", "digest": "", "image": files[number % len(files)]}
            for number in range(count)
        ],
        rows.FETCHED,
    )


def _run(stage: SegmentStage, batch: pa.Table) -> None:
    """Run the stage. Raises RuntimeError where a picture failed: what fails is fast."""
    done = pa.concat_tables(stage(batch))
    messages = done.column("message").drop_null()
    if len(messages):
        raise RuntimeError(f"{len(messages)} of {len(done)} pictures failed: {messages[0]}")


def _busy(work: partial[None]) -> float:
    """Give the share of the time, from the device's first kernel or copy to its last, in which there was one."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        work()
        torch.cuda.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiled.events()
        if event.device_type == torch.autograd.DeviceType.CUDA  # type: ignore[attr-defined]
    )
    busy, reached = 0.0, float(spans[0][0])
    for start, end in spans:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return busy / (reached - float(spans[0][0]))
