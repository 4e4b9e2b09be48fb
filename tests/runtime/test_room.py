"""Room for actors that have lost their machine: when it is made, from whom, and when not."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from ray.data._internal.actor_autoscaler.autoscaling_actor_pool import ActorPoolScalingRequest

from pipeline.runtime.room import MakeRoom


@dataclass(eq=False)
class Actors:
    """A pool of actors of half a CPU, some of which are at work or wait for room, and when others were ended."""

    idle: int
    busy: int = 0
    restarting: int = 0
    gpus: int = 0
    ended: list[int] = field(default_factory=list)

    def current_size(self) -> int:
        return self.idle + self.busy + self.restarting

    def num_restarting_actors(self) -> int:
        return self.restarting

    def per_actor_resource_usage(self) -> SimpleNamespace:
        return SimpleNamespace(cpu=0.5, gpu=self.gpus, memory=100)

    def scale(self, request: ActorPoolScalingRequest) -> int:
        assert request.delta == -self.current_size()
        self.ended.append(self.idle)
        return -self.idle


@dataclass
class Graph:
    """A graph with a pool for each stage, whose step is done every second."""

    pools: tuple[Actors, ...]
    resources: dict[str, float] = field(default_factory=lambda: {"CPU": 1.0, "memory": 1000.0})
    second: int = 0
    outputs: int = 0

    def __post_init__(self) -> None:
        self.room = MakeRoom(lambda: self.resources, lambda: self.second)

    def run(self, seconds: int, moves: bool = False) -> None:
        for _ in range(seconds):
            self.outputs += moves
            metrics = SimpleNamespace(num_outputs_taken=self.outputs, num_task_outputs_generated=self.outputs)
            operators = [
                SimpleNamespace(metrics=metrics, get_autoscaling_actor_pools=lambda pool=pool: [pool])
                for pool in self.pools
            ]
            self.room.on_execution_step(SimpleNamespace(_topology=operators))
            self.second += 1


def test_idle_workers_end_where_nothing_moves_and_others_wait_for_room(capsys: pytest.CaptureFixture[str]) -> None:
    segmenting, refining, done = Actors(idle=2, busy=1), Actors(idle=1, restarting=3), Actors(idle=0)
    graph = Graph((segmenting, refining, done))
    graph.run(30)
    assert segmenting.ended == []  # those that wait may be on their way
    graph.run(1)
    assert (segmenting.ended, refining.ended) == ([2], [1])
    assert "workers of lost machines find no room; idle ones end for them: 3" in capsys.readouterr().err


def test_where_all_are_at_work_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Graph((Actors(idle=0, busy=2), Actors(idle=0, restarting=1))).run(60)
    assert capsys.readouterr().err == ""


def test_what_still_does_not_move_gets_more_patience_each_time_until_it_moves() -> None:
    segmenting = Actors(idle=1)
    graph = Graph((segmenting, Actors(idle=0, restarting=1)))
    graph.run(211)
    assert len(segmenting.ended) == 3  # at 30, 90 and 210 seconds
    graph.run(10, moves=True)
    graph.run(41)
    assert len(segmenting.ended) == 4


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Actors(idle=1), id="all have room"),
        pytest.param(Actors(idle=0, restarting=5, gpus=1), id="no machine has a GPU any more"),
    ],
)
def test_nobody_ends_where_it_would_not_help(other: Actors) -> None:
    segmenting = Actors(idle=4)
    Graph((segmenting, other)).run(300)
    assert segmenting.ended == other.ended == []


def test_nobody_ends_while_anything_moves() -> None:
    segmenting = Actors(idle=4)
    Graph((segmenting, Actors(idle=0, restarting=5))).run(300, moves=True)
    assert segmenting.ended == []
