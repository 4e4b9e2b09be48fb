"""Calls on threads of their own, which do not keep the process from ending: Ctrl-C ends what waits for them at once."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


def in_background(call: Callable[[], _T]) -> "Future[_T]":
    """Start `call`; the future holds what it gives or raises."""
    promise: Future[_T] = Future()

    def work() -> None:
        try:
            promise.set_result(call())
        except BaseException as error:  # whoever waits must not wait for ever
            promise.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return promise


def in_order(calls: Iterable[Callable[[], _T]], at_once: int) -> Iterator[_T]:
    """Make the calls, `at_once` of them at a time; yields what they give, in their order, and raises as they do."""
    waiting: deque[Future[_T]] = deque()
    for call in calls:
        waiting.append(in_background(call))
        if len(waiting) >= at_once:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
