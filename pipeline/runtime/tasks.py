"""Results of many Ray tasks, of which only a few are under way at a time."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import ray

from pipeline.runtime.errors import get

_TASKS_A_CPU = 3


def task_results(submitted: Iterable[Any]) -> Iterator[Any]:
    """The results in order. `submitted` submits a task for each reference it gives, and is asked for a few ahead.

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
