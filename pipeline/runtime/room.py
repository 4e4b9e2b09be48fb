"""Room for a stage that has lost all its workers: on the machines that are left, others may have taken it.

Ray starts the actors of lost machines anew wherever there is room, in no order of stages. So those that are left may
hold actors of one stage alone, which soon have nothing to do, since nobody takes what they have made; and Ray Data
gives no actor back while its pool has a task, be it one that waits for an actor without a machine.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import ray
from ray.data._internal.actor_autoscaler.autoscaling_actor_pool import ActorPoolScalingRequest
from ray.data._internal.execution.execution_callback import ExecutionCallback

from pipeline.runtime.progress import say

_CHECK_SECONDS = 10.0
_PATIENCE_SECONDS = 30.0  # an actor that has room is back within a few


class Pool(Protocol):
    """What is asked of a pool of Ray Data; actors that are not alive are pending or start again."""

    def current_size(self) -> int: ...  # noqa: D102
    def min_size(self) -> int: ...  # noqa: D102
    def num_alive_actors(self) -> int: ...  # noqa: D102
    def num_restarting_actors(self) -> int: ...  # noqa: D102
    def per_actor_resource_usage(self) -> Any: ...  # noqa: D102
    def scale(self, request: ActorPoolScalingRequest) -> int | None: ...  # noqa: D102


class MakeRoom(ExecutionCallback):
    """Takes idle actors from the other pools of a graph while one has none that is alive.

    Every ten seconds half of each goes, of those that are idle, until the pool has an actor again: the room of one may
    be taken by an actor of the same stage that waits for it as well.
    """

    def __init__(
        self,
        resources: Callable[[], Mapping[str, float]] = ray.cluster_resources,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Follow the `resources` of all machines that are alive; `now` gives the time in seconds."""
        self._resources, self._now = resources, now
        self._next = 0.0
        self._since: float | None = None

    def on_execution_step(self, executor: Any) -> None:
        """Look at the pools of a graph, now and then; Ray Data calls this ten times a second."""
        if self._now() >= self._next:
            self._next = self._now() + _CHECK_SECONDS
            self.look([pool for op in executor._topology for pool in op.get_autoscaling_actor_pools()])

    def look(self, pools: Sequence[Pool]) -> None:
        """Make room where a pool has lacked it for half a minute."""
        lacking = [pool for pool in pools if self._lacks_room(pool)]
        if not lacking:
            self._since = None
            return
        self._since = self._now() if self._since is None else self._since
        if self._now() - self._since < _PATIENCE_SECONDS:
            return
        for pool in pools:
            if pool not in lacking and pool.num_alive_actors():
                _halve(pool)

    def _lacks_room(self, pool: Pool) -> bool:
        """Tell whether a pool has lost all its actors, and the machines that are there could hold one."""
        if pool.num_alive_actors() or not pool.num_restarting_actors():
            return False
        needed, there = pool.per_actor_resource_usage(), self._resources()
        amounts = {"CPU": needed.cpu, "GPU": needed.gpu, "memory": needed.memory}
        return all(there.get(kind, 0.0) >= amount for kind, amount in amounts.items())


def _halve(pool: Pool) -> None:
    surplus = pool.current_size() - max(pool.min_size(), math.ceil(pool.current_size() / 2))
    if surplus > 0:
        released = pool.scale(ActorPoolScalingRequest.downscale(delta=-surplus, force=True, reason="makes room"))
        if released:
            say(f"a stage has lost all its workers and finds no room; idle ones of another end: {-released}")
