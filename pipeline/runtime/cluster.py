"""The Ray cluster a job runs on: connected to, or started for its time; and what its machines have free."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock, current_thread, main_thread
from typing import Any, TypeVar

import ray
from ray._private.state import available_resources_per_node

from pipeline.errors import ConfigError, RunError
from pipeline.refine import RefineDevice
from pipeline.runtime.connection import connection, wait_for_start
from pipeline.runtime.plan import Node, Plan, WorkerLimits, plan

_RELEASE_SECONDS = 15.0
"""How long a run that has just ended may take to release what it held."""

_Fit = TypeVar("_Fit")


def named_cluster() -> str | None:
    """Return the cluster that RAY_ADDRESS names; None where it is unset or empty.

    Raises:
        ConfigError: it is a URL. Ray Data does not run through Ray Client (ray://), and http:// takes jobs only.
    """
    address = os.environ.get("RAY_ADDRESS") or None
    if address and "://" in address:
        raise ConfigError(
            f"RAY_ADDRESS is {address}, through which no job of this project can run; give HOST:PORT of the cluster's "
            "head from a machine of the cluster, or use `ray job submit --address http://HOST:8265`"
        )
    return address


def connect() -> None:
    """Connect to the cluster that RAY_ADDRESS names, or to a local one of this process's own, unless connected.

    To be called in a block of `connection`, which ends it. Ray by itself would rather join a local cluster that another
    run has started, and die with it.

    Raises:
        ConfigError: RAY_ADDRESS is no address of a cluster.
        RunError: Ray does not start or answer.
    """
    wait_for_start()
    connect_here()


def connect_here() -> None:
    """Do as `connect`, whatever has been begun ahead."""
    with _connecting:
        if ray.is_initialized():
            return
        if current_thread() is main_thread():
            _init()
        else:
            _starter.submit(_init).result()


_connecting = Lock()
"""Held while a thread connects: one that lists may find that it needs Ray when the main one does."""

_starter = ThreadPoolExecutor(1, "ray-starter")
"""A thread that does not end before the process: Linux ends Ray's processes with the thread that has started them."""


def _init() -> None:
    on_terminate = signal.getsignal(signal.SIGTERM)
    address = named_cluster()
    where: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises nothing more special for a node that starts too slowly
        raise RunError(
            f"Ray did not start or answer: {' '.join(str(error).split())[:300]}; see whether RAY_ADDRESS names a "
            "running cluster, whether RAY_AUTH_MODE and the token are the same here as where it was started, and "
            "whether this machine is overloaded"
        ) from error
    if callable(on_terminate) and current_thread() is main_thread():
        signal.signal(signal.SIGTERM, on_terminate)  # Ray has put its own handler there, as it does in no other thread


@contextmanager
def connected() -> Iterator[None]:
    """Be connected for the time of the block. Raises as `connect` does."""
    with connection():
        connect()
        yield


def fit_when_free(fit: Callable[[Sequence[Mapping[str, float]]], _Fit]) -> _Fit:
    """Give what `fit` makes of what each machine has free, by Ray's names; ask it again while that is too little.

    Raises:
        RunError: `fit` raises it still when a run that has just ended must have released what it held.
    """
    deadline = time.monotonic() + _RELEASE_SECONDS
    while True:
        free = list(available_resources_per_node().values())  # type: ignore[no-untyped-call]
        try:
            return fit(free)
        except RunError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def plan_when_free(refiner_memory: int, refine_on: RefineDevice = "cpu", limits: WorkerLimits | None = None) -> Plan:
    """Plan for what is free, see `plan`, as fit_when_free does. Raises RunError.

    Machines may join a cluster that was started by others; one that this process has started stays as it is.
    """
    grows = named_cluster() is not None

    def fit(free: Sequence[Mapping[str, float]]) -> Plan:
        return plan([_node(machine) for machine in free], refiner_memory, refine_on, limits, grows)

    return fit_when_free(fit)


def _node(free: Mapping[str, float]) -> Node:
    return Node(cpus=free.get("CPU", 0.0), gpus=free.get("GPU", 0.0), memory=free.get("memory", 0.0))
