"""Many calls on the cluster, only some of them under way at a time; their results come in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext

from pipeline.runtime.errors import get, standstill

_TASKS_A_CPU = 3

TableCall = Callable[[], pa.Table]


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
    """Make tables on the cluster, and return references to all of them in the order of the calls.

    Nothing holds a CPU: this is for work that waits for storage, or that runs beside a worker which holds the CPUs.

    Args:
        calls: give one table each.
        at_once: how many of them run at a time.

    Raises:
        PipelineError: what a call raised of the project's own errors, as it was raised.
        RunError: one took its process down again and again, or none ended for as long as `configured` lets a job stand
            still.
    """
    made: list[Any] = []
    under_way: list[Any] = []
    for call in calls:
        if len(under_way) >= at_once:
            under_way = _less_one(under_way)
        both: Any = _made.remote(call)
        table, done = both
        made.append(table)
        under_way.append(done)
    while under_way:
        under_way = _less_one(under_way)
    return made


@ray.remote(num_cpus=0, num_returns=2, max_retries=3)
def _made(call: TableCall) -> tuple[pa.Table, None]:
    """Make a table; the second is for who waits, whom the table itself does not have to reach."""
    return call(), None


def _less_one(under_way: list[Any]) -> list[Any]:
    """Wait until one is done; give the others. Raises as `tables` does."""
    most = DataContext.get_current().execution_no_progress_timeout_s
    done, others = ray.wait(under_way, timeout=most if most > 0 else None)
    if not done:
        raise standstill()
    get(done)
    return others
