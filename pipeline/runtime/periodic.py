"""Actions that are repeated on a thread of their own while the main thread waits for the graph."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def every(seconds: float, action: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Call `action` every `seconds` on a thread of its own until the block ends.

    Yields:
        a function that raises what `action` raised, if it did; it is also called when the block ends well.
    """
    ended = threading.Event()
    failures: list[Exception] = []

    def work() -> None:
        while not ended.wait(seconds):
            try:
                action()
            except Exception as error:
                failures.append(error)
                return

    def check() -> None:
        if failures:
            raise failures[0]

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        ended.set()
        thread.join()
    check()
