"""The cost of the graph itself for an image, and how far one driver reaches: `python -m benchmarks.scale`.

The whole job, listing to summary, over many images of real bytes, on a cluster that has more CPUs and GPUs than the
machine: Segmenters and Refiners sleep as long as they would work, so that the cores are left to the graph. Prints two
tables: the core time an image by who spent it, the driver's memory and the object store's peak; and, by a discrete
simulation with these figures, clusters of 10 to 1 000 GPUs.

--segment-seconds and --refine-seconds are of one image, on a GPU and on a core. Linux only.
"""

import io
import multiprocessing
import platform
import sys
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from PIL import Image

from benchmarks.job_run import DRIVER, MACHINE, RAY, REFINE, SEGMENT, TASKS, TRACKER, core_seconds
from benchmarks.listing import Measured, measure
from benchmarks.scale_simulation import Costs, simulate
from benchmarks.sleeping_stages import stages
from benchmarks.table import markdown, number
from pipeline.batch import graph
from pipeline.batch.config import RunConfig
from pipeline.batch.preflight import check
from pipeline.batch.run import segment
from pipeline.batch.summary import Summary
from pipeline.cli import parse
from pipeline.errors import ConfigError, PipelineError, RunError
from pipeline.refine import RefineConfig
from pipeline.scenes import scene
from pipeline.storage import Uri

_MIB = 1024**2
_PER_SHARD = 500
_PICTURES = 50


@dataclass(frozen=True, kw_only=True)
class ScaleBenchmark:
    """Measure the graph with sleeping stages, and simulate larger clusters.

    Args:
        images: how many.
        gpus: of the pretended cluster.
        cpus: likewise; all but one for each GPU are Refiners.
        segment_seconds: of a GPU for an image.
        refine_seconds: of a core for an image.
        folder: where the images are made; by default a folder that is removed afterwards.
    """

    images: int = 100_000
    gpus: int = 1
    cpus: int = 33
    segment_seconds: float = 0.01
    refine_seconds: float = 0.35
    folder: Uri | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if self.images < 1 or not 1 <= self.gpus < self.cpus:
            raise ConfigError(
                f"images is {self.images}, gpus {self.gpus}, cpus {self.cpus}; give at least 1 image and 1 GPU, and "
                "more CPUs than GPUs"
            )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run, the driver's memory, and the most bytes that lay in the object store."""

    summary: Summary
    driver: Measured
    store_peak: float


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(ScaleBenchmark, "The graph's own cost with stages that sleep, and simulated clusters.", argv)
        with tempfile.TemporaryDirectory() as made:
            folder = Path(config.folder or made)
            write_images(folder / "in", config.images)
            outcome, spent = run_apart(config, folder)
    except PipelineError as error:
        print(f"scale: {error}", file=sys.stderr)
        return 1
    print(f"{config.images} images, {outcome.summary.plan}; {platform.processor() or platform.machine()}\n")
    print(markdown(("what", "value", "unit"), measured(config, outcome, spent)))
    driver_seconds = spent[DRIVER] / config.images
    costs = Costs(config.segment_seconds, config.refine_seconds, driver_seconds)
    print(f"\nSimulated, the driver at {1e3 * driver_seconds:.3g} ms an image:\n")
    print(markdown(("GPUs", "images/s", "of the GPUs' rate", "driver busy"), simulated(costs)))
    return 0


def write_images(folder: Path, count: int) -> None:
    """Parquet shards of `count` encoded pictures, a few dozen different ones in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    encoded = [jpeg(seed) for seed in range(min(_PICTURES, count))]
    for first in range(0, count, _PER_SHARD):
        numbers = range(first, min(first + _PER_SHARD, count))
        keys = [f"{number:08d}" for number in numbers]
        table = pa.table({"key": keys, "image": pa.array([encoded[n % len(encoded)] for n in numbers], pa.binary())})
        pq.write_table(table, folder / f"{first:08d}.parquet", row_group_size=100, compression="none")


def jpeg(seed: int) -> bytes:
    """A generated scene of 500x375 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(scene(seed, (500, 375))[0]).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def run_apart(config: ScaleBenchmark, folder: Path) -> tuple[Outcome, dict[str, float]]:
    """Do the run in a process of its own; give it and the core seconds of its processes by group. Raises RunError."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    job = spawn.Process(target=run, args=(config, folder, there))
    job.start()
    there.close()

    def ended(seconds: float) -> bool:
        return here.poll(seconds) or not job.is_alive()

    assert job.pid is not None
    spent = core_seconds(job.pid, ended)
    try:
        outcome: Outcome = here.recv()
    except EOFError:
        raise RunError("the run failed; its messages are above") from None
    job.join()
    return outcome, dict(spent)


def run(config: ScaleBenchmark, folder: Path, answer: Connection) -> None:
    """Run the job in this process, its driver, with sleeping stages on a pretended cluster."""
    ray.init(
        "local", num_cpus=config.cpus, num_gpus=config.gpus, _memory=2**44, include_dashboard=False, log_to_driver=False
    )
    mask = scene(0, (500, 375))[1]
    segmenter, refiner = stages(mask, config.segment_seconds, config.refine_seconds)
    vars(graph).update(SegmentStage=segmenter, RefineStage=refiner)
    refine = RefineConfig(device="cpu")
    ready = check(
        RunConfig(
            input=Uri(f"{folder}/in"),
            output=Uri(f"{folder}/out"),
            model=Uri("scenes"),
            input_format="parquet",
            refine=refine,
        )
    )
    summaries: list[Summary] = []

    def work() -> int:
        summaries.append(segment(ready))
        return summaries[0].listed

    store = StorePeak()
    store.start()
    driver = measure(work)
    answer.send(Outcome(summary=summaries[0], driver=driver, store_peak=store.stop()))
    ray.shutdown()


class StorePeak(threading.Thread):
    """Measures once a second how many bytes lie in the cluster's object stores."""

    def __init__(self) -> None:
        """Prepare to start."""
        super().__init__(daemon=True)
        self._ended = threading.Event()
        self._peak = 0.0

    def run(self) -> None:
        """Measure until it is stopped."""
        while not self._ended.wait(1):
            there, free = (
                resources.get("object_store_memory", 0.0)
                for resources in (ray.cluster_resources(), ray.available_resources())  # type: ignore[no-untyped-call]
            )
            self._peak = max(self._peak, there - free)

    def stop(self) -> float:
        """End; returns the most bytes that were seen."""
        self._ended.set()
        self.join()
        return self._peak


def measured(config: ScaleBenchmark, outcome: Outcome, spent: dict[str, float]) -> list[tuple[str, str, str]]:
    """Make the rows of the first table."""
    summary, plan = outcome.summary, outcome.summary.plan
    assert plan is not None
    bound = min(plan.segmenters / config.segment_seconds, plan.refiners / config.refine_seconds)
    rows = [
        ("bound that the sleeping sets", number(bound), "images/s"),
        ("job, after the first image", number(summary.images_per_second), "images/s"),
        ("job / bound", number(summary.images_per_second / bound), ""),
    ]
    for group in (DRIVER, RAY, TRACKER, TASKS, SEGMENT, REFINE):
        rows.append((f"core time: {group}", number(1e3 * spent.get(group, 0.0) / config.images), "ms/image"))
    own = sum(seconds for group, seconds in spent.items() if group not in MACHINE)
    rows.append(("core time: all of these", number(1e3 * own / config.images), "ms/image"))
    rows.append(("driver's memory before", number(outcome.driver.before / _MIB), "MiB"))
    rows.append(
        ("driver's memory, more at the peak", number((outcome.driver.peak - outcome.driver.before) / _MIB), "MiB")
    )
    rows.append(("object store at the peak", number(outcome.store_peak / _MIB), "MiB"))
    return rows


def simulated(costs: Costs) -> list[tuple[str, str, str, str]]:
    """Make the rows of the second table."""
    rows = []
    for gpus in (10, 30, 100, 300, 1000):
        simulated = simulate(gpus, costs)
        share = simulated.images_per_second * costs.segment_seconds / gpus
        rows.append((str(gpus), number(simulated.images_per_second), f"{share:.0%}", f"{simulated.driver_busy:.0%}"))
    return rows


if __name__ == "__main__":
    sys.exit(main())
