"""A call on a thread of its own, so that the main thread can watch it, and Ctrl-C ends the watching at once."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


def in_background(call: Callable[[], _T]) -> "Future[_T]":
    """What `call` will give, or raise. The thread does not keep the process from ending."""
    promise: Future[_T] = Future()

    def work() -> None:
        try:
            promise.set_result(call())
        except Exception as error:
            promise.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return promise
