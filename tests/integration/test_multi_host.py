"""Jobs over several hosts, submitted to the head as an operator does; one host is cut off in the middle of a run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray.util.state import list_actors, list_nodes

from pipeline import masks, models, storage
from tests.helpers.hosts import Host, network, unavailable
from tests.helpers.labelled import CLASSES, put_webdataset
from tests.helpers.pictures import jpeg, photo
from tests.helpers.ray_cluster import RayCluster, ray_cluster
from tests.helpers.servers import credentials, new_bucket, seaweedfs

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COUNT = 480  # the lost host is at work when it is lost, however fast the others are

ENVIRONMENT = {
    "PATH": f"{BIN}:{os.environ['PATH']}",
    # a silent host is given up after 20 s, and so are calls to it; Ray's own values are a minute, and seven
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
}


@dataclass(frozen=True)
class Site:
    """A head without CPUs and two workers of one CPU, each on a host of its own; `workers` has a third in reserve."""

    cluster: RayCluster
    workers: list[Host]

    def submit(self, *entrypoint: str) -> "subprocess.Popen[str]":
        """Start `ray job submit`, which runs `entrypoint` on the head and follows it to its end."""
        variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        command = [str(BIN / "ray"), "job", "submit", "--address", self.cluster.dashboard, "--working-dir=."]
        command += ["--runtime-env-json", json.dumps({"env_vars": variables}), "--", "python", *entrypoint]
        environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def actors(self, title: str) -> list[Any]:
        """What the head knows of the actors, living and dead, whose class has this title."""
        found = list_actors(self.cluster.dashboard, filters=[("class_name", "=", title)], detail=True)
        return list(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if reason := unavailable():
        pytest.skip(f"hosts are network namespaces, and this machine allows none: {reason}")
    folder = tmp_path_factory.mktemp("site")
    with (
        network(folder, "storage", "head", "worker-1", "worker-2", "worker-3") as (store, head, *workers),
        seaweedfs(folder, store) as server,
        ray_cluster(3, 1, ENVIRONMENT, folder, [head, *workers]) as cluster,
        pytest.MonkeyPatch.context() as environment,
    ):
        for name, value in credentials(server.endpoint).items():
            environment.setenv(name, value)
        yield Site(cluster, workers)


def finish(job: "subprocess.Popen[str]") -> tuple[str, dict[str, Any]]:
    """All output of a job that ended well, and its summary."""
    output, _ = job.communicate(timeout=600)
    assert job.returncode == 0, output
    summaries = [line for line in output.splitlines() if line.startswith('{"')]
    summary: dict[str, Any] = json.loads(summaries[-1])
    return output, summary


def test_training_joins_the_workers_of_two_hosts(site: Site) -> None:
    bucket = new_bucket()
    put_webdataset(f"{bucket}/data", "train", 6)
    flags = ["--data_format=webdataset", "--validation_split=null", f"--classes={json.dumps(CLASSES)}"]
    flags += ["--model=light", "--init=efficientnet-lite0-imagenet", "--workers=2", "--name=streets"]
    flags += ["--recipe.iterations=3", "--recipe.batch=4", "--recipe.crop=49", "--recipe.no-freeze-bn"]
    _, summary = finish(site.submit("jobs/train.py", f"--data={bucket}/data", f"--output={bucket}/out", *flags))
    assert summary["best_step"] == 3
    assert models.load(summary["weights"]).classes == CLASSES
    workers = site.actors("RayTrainWorker")
    assert len(workers) == len({worker.node_id for worker in workers}) == 2


def test_a_run_outlives_a_host_that_is_cut_off(site: Site) -> None:
    bucket = new_bucket()
    for n in range(COUNT):
        storage.put_whole(f"{bucket}/in/{n:03d}.jpg", jpeg(photo(n, 120, 160)))
    output = f"{bucket}/out"
    flags = [f"--input={bucket}/in", f"--output={output}", "--model=scenes", "--commit-seconds=0.5"]
    job = site.submit("jobs/segment_bucket.py", *flags)
    while not storage.exists(f"{output}/masks") and job.poll() is None:
        time.sleep(0.2)
    lost = site.workers[1]
    lost.unplug()
    before = masks.verify(output)
    site.cluster.add_node()
    site.cluster.wait_for_nodes()
    output, summary = finish(job)
    assert 0 < before.segmented < COUNT
    assert [node.state for node in list_nodes(site.cluster.dashboard) if node.node_ip == lost.address] == ["DEAD"]
    assert (summary["listed"], summary["segmented"], summary["failed"]) == (COUNT, COUNT, 0)
    assert "Traceback" not in output
    found = masks.verify(output)
    assert found.problems == ()
    assert (found.segmented, found.failed, found.replaced) == (COUNT, 0, 0)
