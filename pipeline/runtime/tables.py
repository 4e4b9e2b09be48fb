"""Tables made by Ray Data, a task for each call."""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata

from pipeline.runtime.errors import carried, root_cause

Call = Callable[[], Iterable[pa.Table]]


def tables(calls: Sequence[Call], at_once: int) -> list[Any]:
    """References to the tables that the calls give, all made and in the order of the calls.

    Nothing holds a CPU: this is for work that waits for storage, or that runs beside a worker which holds the CPUs.

    Args:
        calls: give one table each.
        at_once: how many of them run at a time.

    Raises:
        PipelineError: what a call raised of the project's own errors, as it was raised.
    """
    _configure()
    dataset = ray.data.read_datasource(_Tasks(calls), num_cpus=0, concurrency=at_once, override_num_blocks=len(calls))
    try:
        dataset = dataset.materialize()
    except ray.exceptions.RayError as error:
        raise root_cause(error) from None
    return [block.ref for bundle in dataset.iter_internal_ref_bundles() for block in bundle.blocks]


def _configure() -> None:
    """Keep the order, and let Ray Data say nothing of its own: what fails is raised, and progress shows elsewhere."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"ray\.data")
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True


class _Tasks(Datasource):
    """A Ray Data source of calls, each made in a task of its own."""

    def __init__(self, calls: Sequence[Call]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls = calls

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown before anything is read."""
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """One task a call, whatever parallelism is asked for."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_carried, call), unknown) for call in self._calls]


def _carried(call: Call) -> Iterator[pa.Table]:
    with carried():
        yield from call()
