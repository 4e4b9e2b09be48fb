"""Many calls on the cluster, only some of them under way at a time; their results come in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from pipeline.runtime.configured import configured
from pipeline.runtime.errors import as_raised, carried, get

_TASKS_A_CPU = 3

TableCall = Callable[[], Iterable[pa.Table]]


def task_results(submitted: Iterable[Any]) -> Iterator[Any]:
    """Give the results in order. `submitted` submits a task for each reference it gives, and is asked for a few ahead.

    Raises:
        PipelineError: what a task raised of the project's own errors, as it was raised.
    """
    ahead = _TASKS_A_CPU * max(int(ray.cluster_resources().get("CPU", 1)), 1)  # type: ignore[no-untyped-call]
    waiting: deque[Any] = deque()
    for reference in submitted:
        waiting.append(reference)
        if len(waiting) >= ahead:
            yield get(waiting.popleft())
    while waiting:
        yield get(waiting.popleft())


def tables(calls: Sequence[TableCall], at_once: int) -> list[Any]:
    """Make tables by Ray Data, and return references to all of them in the order of the calls.

    Nothing holds a CPU: this is for work that waits for storage, or that runs beside a worker which holds the CPUs.

    Args:
        calls: give one table each.
        at_once: how many of them run at a time.

    Raises:
        PipelineError: what a call raised of the project's own errors, as it was raised.
    """
    with configured(preserve_order=True), as_raised():
        source = _CallDatasource(calls)
        dataset = ray.data.read_datasource(source, num_cpus=0, concurrency=at_once, override_num_blocks=len(calls))
        bundles = dataset.materialize().iter_internal_ref_bundles()
        return [block.ref for bundle in bundles for block in bundle.blocks]


class _CallDatasource(Datasource):
    """A Ray Data source of calls, each made in a task of its own."""

    def __init__(self, calls: Sequence[TableCall]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls = calls

    def estimate_inmemory_data_size(self) -> int | None:
        """Give none: it is unknown before anything is read."""
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """Make one task a call, whatever parallelism is asked for."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_carried, call), unknown) for call in self._calls]


def _carried(call: TableCall) -> Iterator[pa.Table]:
    with carried():
        yield from call()
