"""A call on a thread of its own: the main thread shows its progress meanwhile, and Ctrl-C ends that at once."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


def in_background(call: Callable[[], _T]) -> "Future[_T]":
    """Start `call`; the future holds what it gives or raises. The thread does not keep the process from ending."""
    promise: Future[_T] = Future()

    def work() -> None:
        try:
            promise.set_result(call())
        except Exception as error:
            promise.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return promise
