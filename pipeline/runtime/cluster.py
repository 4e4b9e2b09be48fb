"""The Ray cluster a job runs on: connected to, or started for its time; and what it has free."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private.state import available_resources_per_node

from pipeline.errors import RunError
from pipeline.runtime.plan import Node, Plan, RefineDevice, plan

_WAIT_FOR_ROOM_SECONDS = 15.0


@contextmanager
def connected() -> Iterator[None]:
    """The cluster this process is connected to or RAY_ADDRESS names; else a local one for the time of the run.

    Ray by itself would rather join a local cluster that another run has started, and die with it.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # an error is raised; what the core logs is not for a user
    on_terminate = signal.getsignal(signal.SIGTERM)
    where: dict[str, Any] = {} if "RAY_ADDRESS" in os.environ else {"address": "local", "include_dashboard": False}
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # a node that starts too slowly is told by nothing more special
        raise RunError(
            f"Ray did not start or answer: {' '.join(str(error).split())[:300]}; "
            "see whether RAY_ADDRESS names a running cluster, and whether this machine is overloaded"
        ) from error
    if callable(on_terminate):
        signal.signal(signal.SIGTERM, on_terminate)  # Ray has put its own handler there
    try:
        yield
    finally:
        ray.shutdown()


def plan_when_free(labels: int, refine_on: RefineDevice = "cpu") -> Plan:
    """The plan for what is free; a run that has just ended may need a moment to release its CPUs."""
    deadline = time.monotonic() + _WAIT_FOR_ROOM_SECONDS
    while True:
        try:
            return plan(_free_nodes(), labels, refine_on)
        except RunError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _free_nodes() -> list[Node]:
    return [
        Node(cpus=free.get("CPU", 0.0), gpus=free.get("GPU", 0.0), memory=free.get("memory", 0.0))
        for free in available_resources_per_node().values()  # type: ignore[no-untyped-call]
    ]
