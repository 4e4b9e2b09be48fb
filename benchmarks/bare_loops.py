"""Each stage's bare loop: the job's own stage classes in plain processes, as many at once as the job has, no Ray."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.batch.config import RunConfig
from pipeline.batch.fetch import fetch_chunk
from pipeline.batch.manifest import Chunk
from pipeline.batch.preflight import Preflight, check
from pipeline.batch.refine_stage import RefineStage
from pipeline.batch.segment_stage import SegmentStage, load_predictor
from pipeline.batch.sink import write_files
from pipeline.batch.tracker import LocalTracker
from pipeline.masks import DatasetInfo

STAGES = ("fetch", "segment", "refine", "write")
_START_SECONDS = 300.0

Unit = Any
Step = Callable[[Unit], pa.Table]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Holds what the loops work on: a run that the job has done, and where the tables between the stages lie.

    Attributes:
        config: the run's.
        manifest: URI of the manifest the run wrote.
        chunks: of the manifest.
        info: the note of the run's output.
        segment_batch: rows in a batch of the SegmentStage.
        refine_batch: rows in a batch of the RefineStage.
        folder: local; the tables between the stages lie there.
        seconds: a loop goes on for at least so long, in whole passes over its images.
    """

    config: RunConfig
    manifest: str
    chunks: tuple[Chunk, ...]
    info: DatasetInfo
    segment_batch: int
    refine_batch: int
    folder: Path
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Loop:
    """The speed of one process, or of all together: images/s, and CPU seconds an image."""

    images_per_second: float
    cpu_seconds: float


def chunks_of(manifest: str) -> tuple[Chunk, ...]:
    """Read the chunks of a manifest that was written before: the row groups of its files."""
    chunks = []
    for number, entry in enumerate(sorted(storage.list_files(manifest), key=lambda entry: entry.key)):
        with storage.opened(entry.uri) as stream, pq.ParquetFile(stream) as file:
            groups = range(file.num_row_groups)
            chunks += [Chunk(number, group, file.metadata.row_group(group).num_rows) for group in groups]
    return tuple(chunks)


class Workers:
    """Processes for the loops, kept from one loop to the next. Use as a context manager.

    They are fresh ones, so that no loop inherits this process's threads or memory.
    """

    def __init__(self, counts: Iterable[int]) -> None:
        """Prepare for loops of these numbers of processes."""
        context = multiprocessing.get_context("spawn")
        self._start = {count: context.Barrier(count) for count in counts}
        self._pool = ProcessPoolExecutor(
            max(self._start), mp_context=context, initializer=_begin, initargs=(self._start,)
        )

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def loop(self, stage: str, task: Task, processes: int) -> Loop:
        """Run the loop of `stage` in `processes` at once; a stage reads what the loop of the one before it left."""
        for old in task.folder.glob(f"{stage}-*.parquet"):
            old.unlink()
        running = [self._pool.submit(_work, stage, task, index, processes) for index in range(processes)]
        try:
            done = [future.result() for future in as_completed(running)]
        except BaseException:
            self._start[processes].abort()
            raise
        rate = sum(loop.images_per_second for loop in done)
        cpu_seconds = sum(loop.cpu_seconds * loop.images_per_second for loop in done) / rate
        return Loop(images_per_second=rate, cpu_seconds=cpu_seconds)


_start: dict[int, Barrier] = {}
"""In a worker: where the processes of a loop wait for each other, by their number."""


def _begin(barriers: dict[int, Barrier]) -> None:
    """Prepare a process; Ray lowers the priority of its workers as much."""
    _start.update(barriers)
    os.nice(15)


def _work(stage: str, task: Task, index: int, processes: int) -> Loop:
    """Do the share of one process: every so many-th unit of work, one of them before the clock starts to warm up."""
    prepare = {"fetch": _fetch, "segment": _segment, "refine": _refine, "write": _write}[stage]
    units, step = prepare(task, check(task.config), index, processes)
    step(units[0])
    _start[processes].wait(_START_SECONDS)
    started, cpu = time.monotonic(), time.process_time()
    images = 0
    while not images or time.monotonic() - started < task.seconds:
        done = [step(unit) for unit in units]
        images += sum(table.num_rows for table in done)
    loop = Loop(
        images_per_second=images / (time.monotonic() - started), cpu_seconds=(time.process_time() - cpu) / images
    )
    pq.write_table(pa.concat_tables(done), task.folder / f"{stage}-{index:03d}.parquet")
    return loop


def _fetch(task: Task, ready: Preflight, index: int, processes: int) -> tuple[Sequence[Unit], Step]:
    def step(chunk: Chunk) -> pa.Table:
        return pa.concat_tables(fetch_chunk(ready.source, task.manifest, chunk, chunk.rows))

    return task.chunks[index::processes], step


def _segment(task: Task, ready: Preflight, index: int, processes: int) -> tuple[Sequence[Unit], Step]:
    predictor = partial(load_predictor, ready.load(), task.config.inference)
    segmenter = SegmentStage(predictor, task.config.max_pixels, LocalTracker())
    return _batches(task, "fetch", task.segment_batch)[index::processes], partial(_whole, segmenter)


def _refine(task: Task, ready: Preflight, index: int, processes: int) -> tuple[Sequence[Unit], Step]:
    model = ready.load()
    refiner = RefineStage(
        ready.refiner, model.classes, model.palette, model.geometry, task.config.max_pixels, LocalTracker()
    )
    return _batches(task, "segment", task.refine_batch)[index::processes], partial(_whole, refiner)


def _whole(stage: Callable[[pa.Table], Iterable[pa.Table]], batch: pa.Table) -> pa.Table:
    return pa.concat_tables(stage(batch))


def _write(task: Task, ready: Preflight, index: int, processes: int) -> tuple[Sequence[Unit], Step]:
    """Each process writes one file of its share, again and again."""
    finished = _table(task, "refine")
    first, last = (finished.num_rows * edge // processes for edge in (index, index + 1))

    def step(share: pa.Table) -> pa.Table:
        write_files(ready.config.output, f"loop-{index}.parquet", task.info, share)
        return share

    return [finished.slice(first, last - first)], step


def _table(task: Task, stage: str) -> pa.Table:
    """Read the tables that the loop of `stage` left."""
    return pa.concat_tables(pq.read_table(path) for path in sorted(task.folder.glob(f"{stage}-*.parquet")))


def _batches(task: Task, stage: str, size: int) -> list[pa.Table]:
    table = _table(task, stage).combine_chunks()
    return [table.slice(first, size) for first in range(0, table.num_rows, size)]
