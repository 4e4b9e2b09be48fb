"""The block in which a job may start or join a cluster. Does not load Ray, which many a call turns out not to need."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from pipeline.errors import PipelineError
from pipeline.runtime.background import in_background

_CORE_SETTINGS = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # errors are raised as well
    "RAY_idle_worker_killing_time_threshold_ms": "600000",
}
"""How Ray's core is to run, by environment variable.

By itself it ends a process that is idle for a second where actors hold all CPUs, as they do in a run. The next task
that fetches or writes then starts another, for three seconds of a core.
"""

_TOKEN = secrets.token_hex(32)
"""Of the clusters that this process starts: Ray reads it once a process."""

_AUTHENTICATION = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
"""What of Ray's environment says who may use a cluster, and what with."""

_is_open: ContextVar[bool] = ContextVar("is_open", default=False)
"""Whether a block of `connection` is open here."""

_ahead: "list[Future[None]]" = []
"""Of the open block: what `connect_ahead` has begun."""


@contextmanager
def connection() -> Iterator[None]:
    """Let `connect` of cluster.py join or start a cluster in the block, and leave or end it with the block.

    So a job that finds nothing to do starts no Ray. Nothing changes where this process is connected already.
    """
    is_connected = _of_ray("is_initialized")
    if _is_open.get() or (is_connected and is_connected()):
        yield
        return
    opened = _is_open.set(True)
    with _core_settings():
        try:
            yield
        finally:
            _is_open.reset(opened)
            with suppress(PipelineError):  # a start that is under way cannot be taken back
                wait_for_start()
            if shutdown := _of_ray("shutdown"):
                shutdown()


def connect_ahead() -> None:
    """Begin to start Ray, in a block of `connection`, where it is sure to be needed: beside what else is done.

    `connect` waits for it, and raises what it has raised. Nothing is done outside of a block, nor where RAY_ADDRESS
    names a cluster: to join one takes no time, and one that does not answer would keep the block from ending.
    """
    if _is_open.get() and not os.environ.get("RAY_ADDRESS"):
        _ahead.append(in_background(_connect))


def wait_for_start() -> None:
    """Wait for what `connect_ahead` has begun. Raises as it did."""
    while _ahead:
        _ahead.pop().result()


def _connect() -> None:
    from pipeline.runtime.cluster import connect_here  # which loads Ray, on this thread

    connect_here()


def _of_ray(name: str) -> Callable[[], Any] | None:
    """Give a function of Ray's; None where that is not loaded, or another thread is still about it."""
    return getattr(sys.modules.get("ray"), name, None)


@contextmanager
def _core_settings() -> Iterator[None]:
    """Set for the block what Ray's core reads where this process starts it, unless a person has set it otherwise."""
    settings = _CORE_SETTINGS | _own_token()
    added = (settings.keys() | _AUTHENTICATION) - os.environ.keys()  # Ray itself sets the mode where it starts
    os.environ.update({name: value for name, value in settings.items() if name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _own_token() -> dict[str, str]:
    """Make a token for a cluster that this process starts, unless a person has set what concerns tokens.

    By itself Ray would write one to ~/.ray/auth_token. With that file there, a later `ray start --head` asks for the
    token, which no client gives by itself.
    """
    if os.environ.get("RAY_ADDRESS") or _AUTHENTICATION & os.environ.keys():
        return {}
    return {"RAY_AUTH_TOKEN": _TOKEN}
