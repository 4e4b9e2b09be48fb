"""What the shards of a listing hold: the index that is kept, or a new one, made here or all over the cluster."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from pipeline import storage
from pipeline.data.formats import Format
from pipeline.data.index import kept_index, make_index
from pipeline.data.source import Source
from pipeline.errors import NoInputError
from pipeline.runtime.background import in_order
from pipeline.runtime.cluster import connect
from pipeline.runtime.errors import get

_HERE = 64
"""Shards, the first ones, that this process opens itself: a process of the cluster takes seconds of a core to start."""

_HERE_AT_ONCE = 32
_A_TASK, _BYTES_A_TASK = 16, 2**30
"""Shards that a task opens, all at once: for each task that is under way the cluster starts a process."""

_TASKS = 16
"""Most tasks at a time."""

_AHEAD = 256
"""Shards that are looked into, at most, while the first of them is waited for."""

_LIST_BYTES = 4 * 1024**2
"""Most of a list that this process reads itself: its rows are small, so a large one fills memory."""

Index = list[pa.Table] | NoInputError
"""Tables of schema MANIFEST, or why the shard is no input."""


@dataclass
class _Shard:
    """A shard, and its index: a reference to it where a task makes it, None while none does."""

    entry: storage.Entry
    reader: Format
    index: Index | ray.ObjectRef | None  # type: ignore[type-arg]

    @property
    def is_here(self) -> bool:
        return not (self.index is None or isinstance(self.index, ray.ObjectRef))


def indexes(source: Source, shards: Sequence[storage.Entry]) -> Iterator[tuple[storage.Entry, Format, Index]]:
    """Give what each shard holds, in their order. Many are looked into at a time, so that a slow one stops few.

    Raises:
        StorageError: the storage does not answer, or refuses.
    """
    looks = (partial(_look, source, number, entry) for number, entry in enumerate(shards))
    waiting, closed = deque[_Shard](), list[_Shard]()
    last_of_tasks, most = deque[_Shard](), _TASKS  # of those under way
    for entry, index in zip(shards, in_order(looks, _HERE_AT_ONCE), strict=True):
        waiting.append(_Shard(entry, source.reader(entry), index))
        if index is None:
            closed.append(waiting[-1])
        if closed and (_fill_a_task(closed) or len(waiting) >= _AHEAD):
            last_of_tasks.append(closed[-1])
            most = _open(source, closed)
        while waiting and (waiting[0].is_here or len(waiting) >= _AHEAD or len(last_of_tasks) >= most):
            shard = waiting.popleft()
            if last_of_tasks and shard is last_of_tasks[0]:
                last_of_tasks.popleft()
            yield _opened(shard)
    if closed:
        _open(source, closed)
    while waiting:
        yield _opened(waiting.popleft())


def _look(source: Source, number: int, entry: storage.Entry) -> Index | None:
    """Give the index of a shard: the one that is kept, or else one made here; None where it is for the cluster."""
    reader = source.reader(entry)
    kept = kept_index(entry, reader, source.index)
    return _made(entry, reader, source.index) if kept is None and _is_for_here(reader, number, entry.size) else kept


def _is_for_here(reader: Format, number: int, size: int) -> bool:
    return number < _HERE and not (reader.is_list and size > _LIST_BYTES)


def _fill_a_task(closed: Sequence[_Shard]) -> bool:
    return len(closed) >= _A_TASK or sum(shard.entry.size for shard in closed) >= _BYTES_A_TASK


def _open(source: Source, closed: list[_Shard]) -> int:
    """Have a task open shards, somewhere on the cluster, and forget that they are closed.

    Returns:
        How many tasks may be under way: on a small cluster a process for each would take its cores for long.
    """
    connect()
    shards = [(shard.entry, shard.reader) for shard in closed]
    made: Any = _make_indexes.options(num_returns=len(shards)).remote(shards, source.index, storage.retry_seconds())
    for shard, index in zip(closed, made if len(shards) > 1 else [made], strict=True):
        shard.index = index
    closed.clear()
    return min(_TASKS, max(2, int(ray.cluster_resources().get("CPU", 0))))  # type: ignore[no-untyped-call]


def _opened(shard: _Shard) -> tuple[storage.Entry, Format, Index]:
    """Give a shard with its index, as soon as it is there."""
    index: Any = shard.index
    return shard.entry, shard.reader, get(index) if isinstance(index, ray.ObjectRef) else index


@ray.remote(num_cpus=0, scheduling_strategy="SPREAD")
def _make_indexes(
    shards: Sequence[tuple[storage.Entry, Format]], kept_at: str, retry_seconds: float
) -> Index | list[Index]:
    """Make the index of each of the shards; of one that is alone its own, as Ray has it."""
    with storage.retrying(retry_seconds):
        made = list(in_order((partial(_made, *shard, kept_at) for shard in shards), _A_TASK))
    return made if len(made) > 1 else made[0]


def _made(entry: storage.Entry, reader: Format, kept_at: str) -> Index:
    try:
        return list(make_index(entry, reader, kept_at))
    except NoInputError as error:
        return error
