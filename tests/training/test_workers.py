"""How the cores and GPUs of a cluster are shared among workers."""

import re

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
    assert share_of(nodes, low, high, gpu=False) == Share(cpus=cpus, gpu=False)


def test_a_gpu_each_where_there_are_gpus():
    nodes = [{"CPU": 16.0}, {"CPU": 16.0, "GPU": 4.0}]
    assert share_of(nodes, 4, 4, gpu=True) == Share(cpus=1, gpu=True)


@pytest.mark.parametrize(
    ("nodes", "gpu", "message"),
    [
        ([{"CPU": 2.0}], False, "3 workers need a CPU each, and the cluster has 2 CPU / 0 GPU free: wait until other"),
        ([{"CPU": 64.0, "GPU": 2.0}], True, "3 workers need a CPU and a GPU each, and the cluster has 64 CPU / 2 GPU"),
        ([{"CPU": 2.0, "GPU": 4.0}], True, "has 2 CPU / 4 GPU free"),
        ([{"CPU": 64.0}, {"CPU": 0.5}], True, "has 64 CPU / 0 GPU, 0.5 CPU / 0 GPU free"),  # the GPUs are taken
        ([], False, "has no node free"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_is_free(nodes, gpu, message):
    with pytest.raises(RunError, match=re.escape(message)):
        share_of(nodes, 3, 3, gpu=gpu)
