"""A run whose machines are gone says so, once, and when others have come."""

import pytest

from pipeline.batch.monitoring.capacity import Capacity
from pipeline.runtime.plan import Plan

PLAN = Plan(
    segmenters=2,
    segmenter_cpus=1,
    segmenter_gpus=1,
    segmenter_batch=4,
    gpus_refine=False,
    refiners=6,
    refiner_cpus=1,
    fetchers=5,
)


def test_lost_machines_are_reported_after_a_minute_and_new_ones_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    time, cluster = [0.0], {"CPU": 8.0, "GPU": 2.0}
    capacity = Capacity(PLAN, lambda: cluster, lambda: time[0])

    def message_after(seconds: int) -> str:
        for _ in range(0, seconds, 5):
            time[0] += 5
            capacity.check()
        return capsys.readouterr().err

    assert message_after(100) == ""
    cluster.update(CPU=5.0, GPU=1.0)
    assert message_after(55) == ""
    assert "machines were lost: 5 of 8 CPU, 1 of 2 GPU" in message_after(30)
    assert message_after(100) == ""
    cluster.update(CPU=8.0, GPU=2.0)
    assert message_after(11) == "the cluster can hold the plan again\n"


def test_a_short_absence_is_not_worth_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    time, cluster = [0.0], {"CPU": 3.0}
    capacity = Capacity(PLAN, lambda: cluster, lambda: time[0])
    for second in range(0, 300, 10):
        time[0] += 10
        cluster["CPU"], cluster["GPU"] = (8.0, 2.0) if second % 60 < 20 else (3.0, 2.0)
        capacity.check()
    assert capsys.readouterr().err == ""
