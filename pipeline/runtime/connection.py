"""The block in which a job may start or join a cluster. Does not load Ray, which many a call turns out not to need."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_open: ContextVar[bool] = ContextVar("is_open", default=False)
"""Whether a block of `connection` is open here."""


@contextmanager
def connection() -> Iterator[None]:
    """Let `connect` of cluster.py join or start a cluster in the block, and leave or end it with the block.

    So a job that finds nothing to do starts no Ray. Nothing changes where this process is connected already.
    """
    if _is_open.get() or ("ray" in sys.modules and sys.modules["ray"].is_initialized()):
        yield
        return
    opened = _is_open.set(True)
    with _quiet_core():
        try:
            yield
        finally:
            _is_open.reset(opened)
            if "ray" in sys.modules:
                sys.modules["ray"].shutdown()


@contextmanager
def _quiet_core() -> Iterator[None]:
    """Let Ray's core keep no log in the block, unless a person has asked for one: its errors are raised as well."""
    if "RAY_BACKEND_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    try:
        yield
    finally:
        del os.environ["RAY_BACKEND_LOG_LEVEL"]
