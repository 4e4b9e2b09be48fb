"""Room for actors that have lost their machine: on those that are left, others may have taken it, and do nothing.

Ray starts the actors of lost machines anew wherever there is room, in no order of stages. So those that are left may
hold actors of one stage alone, which soon have nothing to do, since nobody takes what they have made. Or blocks that
were lost with their machine can be made again only by the actor that made them, which has no room. And Ray Data gives
no actor back while its pool has a task, be it one that waits for an actor without a machine.
"""

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
    """What is asked of a pool of Ray Data; an actor that has lost its machine counts as restarting until it is back."""

    def current_size(self) -> int: ...  # noqa: D102
    def num_restarting_actors(self) -> int: ...  # noqa: D102
    def per_actor_resource_usage(self) -> Any: ...  # noqa: D102
    def scale(self, request: ActorPoolScalingRequest) -> int | None: ...  # noqa: D102


class MakeRoom(ExecutionCallback):
    """Ends the idle actors of a graph that stands still while some of its actors wait for room.

    Ray gives the room to those that wait, and Ray Data begins new ones behind them. What stands still after that gets
    twice the patience each time: it may be its storage that it waits for.
    """

    def __init__(
        self,
        resources: Callable[[], Mapping[str, float]] = ray.cluster_resources,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Follow the `resources` of all machines that are alive; `now` gives the time in seconds."""
        self._resources, self._now = resources, now
        self._next = 0.0
        self._moved: object = None
        self._since, self._patience = 0.0, _PATIENCE_SECONDS

    def on_execution_step(self, executor: Any) -> None:
        """Look at a graph now and then; Ray Data calls this ten times a second."""
        if self._now() < self._next:
            return
        self._next = self._now() + _CHECK_SECONDS
        operators = list(executor._topology)
        moved = [(op.metrics.num_outputs_taken, op.metrics.num_task_outputs_generated) for op in operators]
        self.look(moved, [pool for op in operators for pool in op.get_autoscaling_actor_pools()])

    def look(self, moved: object, pools: Sequence[Pool]) -> None:
        """Make room where what has `moved` so far is the same for long, and an actor lacks room."""
        if moved != self._moved or not any(self._lacks_room(pool) for pool in pools):
            self._moved, self._since, self._patience = moved, self._now(), _PATIENCE_SECONDS
        elif self._now() - self._since >= self._patience:
            self._since, self._patience = self._now(), 2 * self._patience
            requests = {pool: ActorPoolScalingRequest(-pool.current_size(), force=True) for pool in pools}
            ended = -sum(pool.scale(request) or 0 for pool, request in requests.items())
            if ended:
                say(f"nothing moves, and workers of lost machines find no room; idle ones end for them: {ended}")

    def _lacks_room(self, pool: Pool) -> bool:
        """Tell whether an actor of the pool waits for room, and the machines that are there could hold it."""
        if not pool.num_restarting_actors():
            return False
        needed, there = pool.per_actor_resource_usage(), self._resources()
        amounts = {"CPU": needed.cpu, "GPU": needed.gpu, "memory": needed.memory}
        return all(there.get(kind, 0.0) >= amount for kind, amount in amounts.items())
