"""How the cores and GPUs of a cluster are shared among workers."""

import pytest

from pipeline.errors import RunError
from pipeline.training.workers import Share, share_of


@pytest.mark.parametrize(
    ("nodes", "low", "high", "cpus"),
    [
        ([{"CPU": 2.0}], 1, 1, 2),
        ([{"CPU": 2.0}], 2, 2, 1),
        ([{"CPU": 8.0}], 3, 3, 2),
        ([{"CPU": 16.0}, {"CPU": 16.0}], 3, 3, 8),  # 10 each would leave room for two
        ([{"CPU": 2.0}], 1, 4, 1),
    ],
)
def test_workers_get_as_many_cores_as_let_all_of_them_fit(nodes, low, high, cpus):
    assert share_of(nodes, low, high) == Share(cpus=cpus, gpu=False)


def test_a_gpu_each_where_there_are_gpus():
    assert share_of([{"CPU": 16.0}, {"CPU": 16.0, "GPU": 4.0}], 4, 4) == Share(cpus=1, gpu=True)


@pytest.mark.parametrize("nodes", [[{"CPU": 2.0}], [{"CPU": 64.0, "GPU": 2.0}]])
def test_what_cannot_fit_is_refused_instead_of_waited_for(nodes):
    with pytest.raises(RunError, match=r"3 workers need a .PU each, and the cluster has 2"):
        share_of(nodes, 3, 3)
