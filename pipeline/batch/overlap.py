"""Steps that overlap: while one item is computed the next is decoded and the one before is encoded."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial, reduce
from typing import Any, TypeVar

_T = TypeVar("_T")

Step = Callable[[Any], Any]
"""Takes what the step before it gave, the first one an item; gives what the next step takes."""


def overlapped(items: Iterable[_T], steps: Sequence[Step], weight: Callable[[_T], int], most: int) -> Iterator[Any]:
    """Take each item through the steps, one after the other; each step works in a thread of its own.

    So the time for many items is that of the slowest step, not the sum of all.

    Args:
        items: taken one by one, by the calling thread, as there is room for them.
        steps: a step sees the items in their order, and is called by one thread alone.
        weight: of an item, such as its pixels.
        most: weight that the items on their way have together; an item that is heavier goes by itself.

    Yields:
        what the last step gives, in the items' order. What `items` or a step raises is raised here, and ends it.
    """
    under_way: deque[tuple[int, Future[Any]]] = deque()
    held = 0
    with contextlib.ExitStack() as threads:
        workers = [threads.enter_context(ThreadPoolExecutor(1)) for _ in steps]
        for worker in workers:
            threads.callback(partial(worker.shutdown, wait=False, cancel_futures=True))
        for item in items:
            more = weight(item)
            while under_way and (held + more > most or under_way[0][1].done()):
                lighter, done = under_way.popleft()
                yield done.result()
                held -= lighter
            under_way.append((more, _begun(item, steps, workers)))
            held += more
        while under_way:
            yield under_way.popleft()[1].result()


def in_turn(items: Iterable[_T], steps: Sequence[Step]) -> Iterator[Any]:
    """Give what `overlapped` gives, by the calling thread alone: for where all steps want the same core."""
    return (reduce(lambda value, step: step(value), steps, item) for item in items)


def _begun(item: Any, steps: Sequence[Step], workers: Sequence[ThreadPoolExecutor]) -> Future[Any]:
    before: Future[Any] = Future()
    before.set_result(item)
    for step, worker in zip(steps, workers, strict=True):
        # a worker's thread waits for the step before: it has nothing else to do, since items keep their order
        before = worker.submit(partial(_follow, step, before))
    return before


def _follow(step: Step, before: Future[Any]) -> Any:
    return step(before.result())
