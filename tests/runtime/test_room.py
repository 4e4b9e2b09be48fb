"""Room for a stage that has lost all its workers: when it is made, from whom, and when not."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from ray.data._internal.actor_autoscaler.autoscaling_actor_pool import ActorPoolScalingRequest

from pipeline.runtime.room import MakeRoom


@dataclass(eq=False)
class Actors:
    """A pool of so many actors of half a CPU, and the sizes that it was brought to."""

    alive: int
    restarting: int = 0
    pending: int = 0
    least: int = 1
    gpus: int = 0
    busy: int = 0
    sizes: list[int] = field(default_factory=list)

    def current_size(self) -> int:
        return self.alive + self.restarting + self.pending

    def min_size(self) -> int:
        return self.least

    def num_alive_actors(self) -> int:
        return self.alive

    def num_restarting_actors(self) -> int:
        return self.restarting

    def per_actor_resource_usage(self) -> SimpleNamespace:
        return SimpleNamespace(cpu=0.5, gpu=self.gpus, memory=100)

    def scale(self, request: ActorPoolScalingRequest) -> int:
        released = min(-request.delta, self.alive - self.busy)
        self.alive -= released
        self.sizes.append(self.current_size())
        return -released


def after(seconds: int, *pools: Actors, **resources: float) -> None:
    """Let a graph with these pools run for a while, a step every second."""
    now = [0.0]
    room = MakeRoom(lambda: {"CPU": 1.0, "memory": 1000.0} | resources, lambda: now[0])
    executor = SimpleNamespace(
        _topology=[SimpleNamespace(get_autoscaling_actor_pools=lambda pool=pool: [pool]) for pool in pools]
    )
    for _ in range(seconds):
        room.on_execution_step(executor)
        now[0] += 1


def test_idle_workers_go_by_halves_where_another_stage_has_no_room(capsys: pytest.CaptureFixture[str]) -> None:
    segmenting, refining = Actors(alive=9, restarting=2), Actors(alive=0, restarting=3)
    after(30, segmenting, refining)
    assert segmenting.sizes == []  # they may be on their way
    after(71, segmenting, refining)
    assert segmenting.sizes == [6, 3, 2]  # at 30, 40 and 50 seconds, and the two that start anew are left
    assert refining.sizes == []
    assert "finds no room; idle ones of another end: 5" in capsys.readouterr().err


def test_workers_that_have_work_stay() -> None:
    segmenting = Actors(alive=4, busy=4)
    after(60, segmenting, Actors(alive=0, restarting=1))
    assert set(segmenting.sizes) == {4}


def test_a_pool_keeps_its_least_size() -> None:
    segmenting = Actors(alive=4, least=4)
    after(60, segmenting, Actors(alive=0, restarting=1))
    assert segmenting.sizes == []


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Actors(alive=1, restarting=5), id="one is there"),
        pytest.param(Actors(alive=0, pending=5), id="the first are on their way"),
        pytest.param(Actors(alive=0, restarting=5, gpus=1), id="no machine has a GPU any more"),
    ],
)
def test_nobody_goes_where_it_would_not_help(other: Actors) -> None:
    segmenting = Actors(alive=4)
    after(120, segmenting, other)
    assert segmenting.sizes == []
    assert other.sizes == []


def test_a_stage_that_comes_back_by_itself_costs_none() -> None:
    segmenting, refining = Actors(alive=4), Actors(alive=0, restarting=1)
    now = [0.0]
    room = MakeRoom(lambda: {"CPU": 1.0, "memory": 1000.0}, lambda: now[0])
    for alive in (0, 0, 1, 0, 0):  # each ten seconds later: never half a minute without
        refining.alive, refining.restarting = alive, 1 - alive
        room.look([segmenting, refining])
        now[0] += 14
    assert segmenting.sizes == []
