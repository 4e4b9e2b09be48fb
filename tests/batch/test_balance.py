"""GPUs and CPUs share the refinement: whichever is faster, neither waits for the other, and what waits is bounded."""

from collections import Counter

import pytest

from pipeline.batch.balance import FIRST_IMAGES, MEASURED_IMAGES, ON_GPU, SLACK_SECONDS, Balance, GpuCosts
from pipeline.batch.counts import Backlog, RunCounts


def test_before_anything_is_measured_each_cpu_gets_a_few() -> None:
    balance = Balance(segmenters=2, refiners=16)
    assert balance.for_cpus(256, Backlog(0, None), None) == 16 * FIRST_IMAGES // 2
    assert balance.for_cpus(20, Backlog(0, None), None) == 20
    assert balance.for_cpus(256, Backlog(16 * FIRST_IMAGES, None), GpuCosts(0.01, 0.01)) == 0


@pytest.mark.parametrize(
    ("network", "on_gpu", "on_cpu", "refiners"),  # seconds of an image
    [
        (0.0015, 0.002, 0.125, 15),  # an H100 as it is hoped for: the CPUs take a third
        (0.0015, 0.004, 0.600, 15),
        (0.0015, 0.020, 0.125, 100),
        (0.0500, 0.060, 0.350, 4),  # a small GPU
        (0.0500, 0.060, 0.350, 40),  # CPUs that can take all
    ],
)
def test_the_share_is_the_one_at_which_both_are_always_at_work(
    network: float, on_gpu: float, on_cpu: float, refiners: int
) -> None:
    """A GPU takes batch after batch; what it sends to the CPUs reaches them with the batch's end."""
    balance, batch = Balance(segmenters=1, refiners=refiners), 256
    costs, waiting, most, idle, busy, shares = None, 0.0, 0.0, 0.0, 0.0, []
    for number in range(120):
        for_cpus = balance.for_cpus(batch, Backlog(round(waiting), on_cpu if number else None), costs)
        period = batch * network + (batch - for_cpus) * on_gpu
        costs = GpuCosts(network, on_gpu)
        taken = min(waiting, refiners * period / on_cpu)
        waiting += for_cpus - taken
        if number > 10:
            shares.append(for_cpus / batch)
            busy, idle = busy + taken * on_cpu / refiners, idle + period - taken * on_cpu / refiners
            most = max(most, waiting)
    rate = refiners / on_cpu
    expected = min(1.0, rate * (network + on_gpu) / (1 + rate * on_gpu))  # share s: s / rate = network + (1 - s) on_gpu
    assert sum(shares) / len(shares) == pytest.approx(expected, rel=0.01)
    if expected < 1:
        assert idle < 0.01 * busy
    assert most <= rate * (2 * batch * (network + on_gpu) + SLACK_SECONDS)


def test_the_share_is_told_with_its_reason_once_both_are_measured() -> None:
    balance = Balance(segmenters=1, refiners=15)
    few = RunCounts(images=Counter({"refine": 1000, ON_GPU: MEASURED_IMAGES - 1}), seconds={"refine": 1.0, ON_GPU: 1.0})
    assert balance.told(few) is None
    counts = RunCounts(images=Counter({"refine": 300, ON_GPU: 700}), seconds={"refine": 37.5, ON_GPU: 1.4})
    assert balance.told(counts) == (
        "refined: 30% of the images on 15 CPUs, 125 ms each, which is all that they can take; the others on 1 GPUs, "
        "2 ms each"
    )
