"""The cost of the graph itself for an image, and how far one driver reaches: `python -m benchmarks.scale`.

The whole job, listing to summary, over real bytes, on a cluster that has more CPUs and GPUs than the machine: its
stages sleep as long as they would work, so that the cores are left to the graph. It is run over few images and over
many, with refinement on GPUs and on CPUs; what an image costs is the difference, so that start-up drops out. Prints a
table of core time by who spent it; by a discrete simulation with these figures, clusters of 10 to 1 000 GPUs; and as
the last line JSON: for each plan driver_ms, ray_ms, watch_ms and fetch_write_ms of core time an image,
images_per_second in steady state, and bound, what the busiest of the driver and the watch could reach.

--segment-seconds and --refine-seconds are of one image, on a GPU and on a core. Linux only.
"""

import io
import json
import multiprocessing
import platform
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from PIL import Image

from benchmarks.job_run import DRIVER, RAY, REFINE, SEGMENT, TASKS, TRACKER, core_seconds
from benchmarks.scale_simulation import Costs, simulate
from benchmarks.sleeping_stages import stages
from benchmarks.table import markdown, number
from pipeline.batch import ahead, graph
from pipeline.batch.config import RunConfig
from pipeline.batch.preflight import check
from pipeline.batch.run import segment
from pipeline.batch.summary import Summary
from pipeline.cli import parse
from pipeline.errors import ConfigError, PipelineError, RunError
from pipeline.refine import RefineConfig, RefineDevice
from pipeline.runtime.connection import connection
from pipeline.scenes import scene
from pipeline.storage import Uri

_PER_SHARD = 500
_PICTURES = 50
_SIMULATED_GPUS = (10, 30, 100, 300, 1000)

Layout = Literal["parquet", "webdataset", "images"]

PLANS: Mapping[str, RefineDevice] = {"on GPUs": "cuda", "on CPUs": "cpu"}
"""Where the images are refined."""


@dataclass(frozen=True, kw_only=True)
class ScaleBenchmark:
    """Measure the graph with sleeping stages, and simulate larger clusters.

    Args:
        few: images of the shorter run, enough for chunks to have grown to their full size.
        many: of the longer one.
        layout: how they lie in the input.
        gpus: of the pretended cluster.
        cpus: likewise; where CPUs refine, all but one for each GPU do.
        segment_seconds: of a GPU for an image.
        refine_seconds: of a core for an image.
        folder: where the images are made; by default a folder that is removed afterwards.
    """

    few: int = 20_000
    many: int = 80_000
    layout: Layout = "parquet"
    gpus: int = 2
    cpus: int = 8
    segment_seconds: float = 0.0005
    refine_seconds: float = 0.002
    folder: Uri | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if not 1 <= self.few < self.many or not 1 <= self.gpus < self.cpus:
            raise ConfigError(
                f"few is {self.few}, many {self.many}, gpus {self.gpus}, cpus {self.cpus}; give at least 1 image, more "
                "of many than of few, at least 1 GPU, and more CPUs than GPUs"
            )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run, and the core seconds of its processes by group."""

    summary: Summary
    core_seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Steady:
    """What an image costs between two runs: core milliseconds by group, and the images of a second."""

    core_ms: Mapping[str, float]
    images_per_second: float

    @property
    def bound(self) -> float:
        """Images of a second that the busiest of the processes could reach of which a run has one."""
        return 1e3 / max(self.core_ms[DRIVER], self.core_ms[TRACKER], 1e-6)

    def figures(self) -> dict[str, float]:
        """Give what the last line says of it."""
        names = {"driver_ms": DRIVER, "ray_ms": RAY, "watch_ms": TRACKER, "fetch_write_ms": TASKS}
        costs = {name: round(self.core_ms[group], 4) for name, group in names.items()}
        return costs | {"images_per_second": round(self.images_per_second, 1), "bound": round(self.bound)}


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(ScaleBenchmark, "The graph's own cost with stages that sleep, and simulated clusters.", argv)
        with tempfile.TemporaryDirectory() as made:
            folder = Path(config.folder or made)
            for count in (config.few, config.many):
                write_images(folder / f"in-{count}", count, config.layout)
            found = {plan: measured(config, folder, plan) for plan in PLANS}
    except PipelineError as error:
        print(f"scale: {error}", file=sys.stderr)
        return 1
    print(f"{config.few} and {config.many} images, {config.layout}; {platform.processor() or platform.machine()}\n")
    print(markdown(("core ms an image, refined", *found), table_rows(list(found.values()))))
    print("\nSimulated:\n")
    print(markdown(("GPUs", *(f"images/s, {plan}" for plan in found)), simulated(found)))
    print(json.dumps({plan: steady.figures() for plan, steady in found.items()}))
    return 0


def write_images(folder: Path, count: int, layout: Layout) -> None:
    """Write `count` encoded pictures, a few dozen different ones in turn, unless the folder is there."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    encoded = [jpeg(seed) for seed in range(min(_PICTURES, count))]
    for first in range(0, count, _PER_SHARD):
        pictures = {f"{n:08d}": encoded[n % len(encoded)] for n in range(first, min(first + _PER_SHARD, count))}
        if layout == "parquet":
            table = pa.table({"key": list(pictures), "image": pa.array(list(pictures.values()), pa.binary())})
            pq.write_table(table, folder / f"{first:08d}.parquet", row_group_size=100, compression="none")
        elif layout == "webdataset":
            with tarfile.open(folder / f"{first:08d}.tar", "w") as archive:
                for name, data in pictures.items():
                    member = tarfile.TarInfo(f"{name}.jpg")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        else:
            for name, data in pictures.items():
                (folder / f"{name}.jpg").write_bytes(data)


def jpeg(seed: int) -> bytes:
    """Encode a generated scene of 500x375 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(scene(seed, (500, 375))[0]).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def measured(config: ScaleBenchmark, folder: Path, plan: str) -> Steady:
    """Run over few images and over many. Raises RunError."""
    few, many = (run_apart(config, folder, plan, count) for count in (config.few, config.many))
    images = config.many - config.few
    seconds = [run.summary.seconds - run.summary.startup_seconds for run in (few, many)]
    return Steady(
        core_ms={
            group: 1e3 * (many.core_seconds.get(group, 0.0) - few.core_seconds.get(group, 0.0)) / images
            for group in (DRIVER, RAY, TRACKER, TASKS, SEGMENT, REFINE)
        },
        images_per_second=images / max(seconds[1] - seconds[0], 1e-3),
    )


def run_apart(config: ScaleBenchmark, folder: Path, plan: str, images: int) -> Outcome:
    """Do a run in a process of its own. Raises RunError."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    job = spawn.Process(target=run, args=(config, folder, plan, images, there))
    job.start()
    there.close()

    def ended(seconds: float) -> bool:
        return here.poll(seconds) or not job.is_alive()

    assert job.pid is not None
    spent = core_seconds(job.pid, ended)
    try:
        summary: Summary = here.recv()
    except EOFError:
        raise RunError("the run failed; its messages are above") from None
    job.join()
    print(f"{images} images, refined {plan}: {summary.plan}", file=sys.stderr, flush=True)
    return Outcome(summary=summary, core_seconds=spent)


def run(config: ScaleBenchmark, folder: Path, plan: str, images: int, answer: Connection) -> None:
    """Run the job in this process, its driver, with sleeping stages on a pretended cluster."""
    mask = scene(0, (500, 375))[1]
    segmenter, refiner = stages(mask, config.segment_seconds, config.refine_seconds)
    vars(graph).update(SegmentStage=segmenter, RefineStage=refiner)
    vars(ahead).update(_FIRST_SECONDS=600.0)  # all in one round: each starts its own actors
    ready = check(
        RunConfig(
            input=Uri(f"{folder}/in-{images}"),
            output=Uri(f"{folder}/out-{PLANS[plan]}-{images}"),
            model=Uri("scenes"),
            input_format=config.layout,
            refine=RefineConfig(device=PLANS[plan]),
        )
    )
    with connection():
        ray.init(
            "local",
            num_cpus=config.cpus,
            num_gpus=config.gpus,
            _memory=2**44,
            include_dashboard=False,
            log_to_driver=False,
        )
        answer.send(segment(ready))


def table_rows(found: Sequence[Steady]) -> list[tuple[str, ...]]:
    """Make the rows of the first table."""
    groups = (DRIVER, RAY, TRACKER, TASKS, SEGMENT, REFINE)
    return [
        *((group, *(number(steady.core_ms[group]) for steady in found)) for group in groups),
        ("images/s here", *(number(steady.images_per_second) for steady in found)),
        ("images/s that driver and watch allow", *(number(steady.bound) for steady in found)),
    ]


def simulated(found: Mapping[str, Steady]) -> list[tuple[str, ...]]:
    """Make the rows of the second table: GPUs that take ten milliseconds an image, cores that keep up with them."""
    refining = {"on GPUs": 0.0, "on CPUs": 0.35}
    costs = [Costs(0.01, refining[plan], 1 / steady.bound) for plan, steady in found.items()]
    return [(str(gpus), *(number(simulate(gpus, one).images_per_second) for one in costs)) for gpus in _SIMULATED_GPUS]


if __name__ == "__main__":
    sys.exit(main())
