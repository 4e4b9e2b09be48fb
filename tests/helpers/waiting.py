"""Waiting for what other processes do in their own time."""

import time
from collections.abc import Callable


def until(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true within two minutes."""
    deadline = time.monotonic() + 120
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return met
