"""A run says when machines go and when others come, once, and when none is left that could work."""

import pytest

from pipeline.batch.monitoring.capacity import Capacity
from pipeline.runtime.plan import GIB, Plan

PLAN = Plan(
    segmenters=2,
    most_segmenters=2,
    segmenter_cpus=1,
    segmenter_gpus=1,
    segmenter_batch=4,
    gpus_refine=False,
    refiners=6,
    most_refiners=6,
    refiner_cpus=1,
    refiner_memory=GIB,
    fetchers=5,
)


def test_each_change_that_lasts_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    time, cluster = [0.0], {"CPU": 8.0, "GPU": 2.0}
    capacity = Capacity(PLAN, lambda: cluster, lambda: time[0])

    def message_after(seconds: int) -> str:
        for _ in range(0, seconds, 5):
            time[0] += 5
            capacity.check()
        return capsys.readouterr().err

    assert message_after(100) == ""
    cluster.update(CPU=5.0, GPU=1.0)
    assert message_after(25) == ""
    gone = "machines are gone: the cluster has 5 CPU and 1 GPU, 8 CPU and 2 GPU before; the run goes on\n"
    assert message_after(30) == gone
    assert message_after(100) == ""
    cluster.update(CPU=0.0, GPU=0.0)
    assert "the cluster has 0 CPU and 0 GPU: too little for a worker; waiting for machines to join" in message_after(50)
    assert message_after(100) == ""
    cluster.update(CPU=12.0, GPU=3.0)
    joined = "machines have joined: the cluster has 12 CPU and 3 GPU, 0 CPU and 0 GPU before\n"
    assert message_after(40) == joined
    assert message_after(100) == ""


def test_a_head_without_workers_is_said_to_wait_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    Capacity(PLAN, lambda: {}, lambda: 0.0).check()
    assert "waiting for machines to join" in capsys.readouterr().err


def test_a_short_absence_is_not_worth_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    time, cluster = [0.0], {"CPU": 8.0, "GPU": 2.0}
    capacity = Capacity(PLAN, lambda: cluster, lambda: time[0])
    for second in range(0, 300, 10):
        time[0] += 10
        cluster["CPU"] = 8.0 if second % 30 < 20 else 3.0
        capacity.check()
    assert capsys.readouterr().err == ""
