"""A run on a cluster that grows and shrinks: who joins works, who goes costs no image."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ray.util import get_node_ip_address

from pipeline import masks, storage
from pipeline.runtime.plan import GIB
from tests.helpers.breaking import Job, Stage, committed, stage
from tests.helpers.ray_cluster import kill
from tests.helpers.servers import free_port

pytestmark = pytest.mark.long
COUNT = 3600  # so many that a fast machine is still at work when others have joined
CRF = "--refine.backend=native"
SIZE = (240, 320)
PADDING = 20_000  # so that a dozen pictures fill a block, which is committed as a whole


def test_machines_that_join_work_and_machines_that_go_cost_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One machine, then three, then two, since one is switched off, then one, since one is given notice."""
    with stage(tmp_path, nodes=1) as parts:
        job, cluster = Job(parts, COUNT, CRF, size=SIZE, padding=PADDING), parts.cluster
        job.start()
        assert job.wait(committed)
        rates = {"1 machine": rate(job)}
        cluster.add_node()
        cluster.add_node()
        cluster.wait_for_nodes()
        assert job.wait(lambda _: working(parts)[0] >= 3)
        rates["3 machines"] = rate(job, 45)  # until the run says so: a change has to last half a minute
        cluster.lose_node()
        rates["2, one switched off"] = rate(job)
        cluster.drain_node(5)
        rates["1, one given notice"] = rate(job)
        assert job.driver.poll() is None
        tell(rates, capsys)
        messages = ended(job)
        assert "machines have joined: the cluster has 3 CPU, 1 CPU before" in messages
        assert "machines are gone: the cluster has 1 CPU" in messages


def test_the_machine_that_is_left_may_hold_one_stage_alone(tmp_path: Path) -> None:
    """Who waits for room takes that of an actor that dies: then the machine has two of a stage, none of the other."""
    with stage(tmp_path, nodes=3) as parts:
        job, cluster = Job(parts, COUNT // 3, CRF, size=SIZE, padding=PADDING), parts.cluster
        job.start()
        assert job.wait(lambda _: working(parts) == (3, 3) and committed(job))
        cluster.lose_node()
        cluster.lose_node()
        assert any(is_trapped_by(job, stage_name) for stage_name in 2 * ["RefineStage", "SegmentStage"])
        code, summary, messages = job.end()
        assert code in (0, 3), messages  # an image that was killed twice by itself has an error row
        assert "idle ones end for them" in messages
        assert (
            job.account().failed == summary["failed"] <= 4
        )  # of which each was alone with a process when it was killed


def is_trapped_by(job: Job, stage_name: str) -> bool:
    """Kill an actor of the stage once it works beside one of the other; tell whether one of the other came instead."""
    assert job.wait(lambda _: working(job.parts) == (1, 1))
    for process in job.parts.cluster.workers(stage_name):
        kill(process)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if working(job.parts) in ((2, 0), (0, 2)):
            return True
        time.sleep(0.2)
    return False


def test_a_head_alone_asks_for_the_machines_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ray's autoscaler starts two, and ends them when they idle."""
    with autoscaled(tmp_path, machines=2) as parts:
        job = Job(parts, COUNT // 8, CRF, size=SIZE, padding=PADDING)
        job.start("--workers.cpus=4")
        assert job.wait(lambda _: parts.cluster.machines() == 3 and working(parts)[0] >= 2)
        tell({"2 machines, asked for": rate(job, 40)}, capsys)
        messages = ended(job)
        assert "waiting for machines to join" in messages
        deadline = time.monotonic() + 300
        while parts.cluster.machines() > 1:
            assert time.monotonic() < deadline, "idle machines stay"
            time.sleep(1)


def working(parts: Stage) -> tuple[int, int]:
    """How many processes segment, and how many refine."""
    return len(parts.cluster.workers("SegmentStage")), len(parts.cluster.workers("RefineStage"))


def rate(job: Job, seconds: float = 20.0) -> float:
    """Masks that are committed in a second, from now on."""
    before, began = rows_committed(job), time.monotonic()
    time.sleep(seconds)
    return (rows_committed(job) - before) / (time.monotonic() - began)


def rows_committed(job: Job) -> int:
    """Count the rows of masks/ and errors/ by their footers: to recount each mask takes as long as to make it."""
    count = 0
    for committed_file in masks.committed_files(job.output):
        with storage.opened(committed_file.uri) as stream, pq.ParquetFile(stream) as file:
            count += file.metadata.num_rows
    return count


def ended(job: Job) -> str:
    """The messages of a run that has segmented all, none twice."""
    code, summary, messages = job.end()
    assert code == 0, messages
    assert (summary["segmented"], summary["failed"]) == (job.count, 0)
    assert job.account().replaced == 0
    assert summary["workers"]["segment"] >= 2
    assert sum(summary["nodes"].values()) == 3  # the head is one
    return messages


def tell(rates: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    """Show images a second in the test's output."""
    with capsys.disabled():
        print("".join(f"\n{machines}: {images:.1f} images/s" for machines, images in rates.items()))


@contextmanager
def autoscaled(folder: Path, machines: int) -> Iterator[Stage]:
    """The parts, with a head of no CPU whose autoscaler starts, here, up to so many machines of two."""
    worker = {"resources": {"CPU": 2, "memory": 8 * GIB, "object_store_memory": 200 * 2**20}, "node_config": {}}
    port = free_port()
    empty = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    lists = (*empty, "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude")
    provider = {"type": "fake_multinode", "gcs_address": f"{get_node_ip_address()}:{port}"}
    config = {
        "cluster_name": "here",
        "max_workers": machines,
        "provider": provider | {"use_node_id_as_ip": True, "disable_node_updaters": True},
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": worker | {"min_workers": 0, "max_workers": machines},
        },
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.2,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "rsync_filter": [],
    } | {name: [] for name in lists}
    file = folder / "autoscaling.json"
    file.write_text(json.dumps(config))
    variables = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    variables["PYTHONOPTIMIZE"] = "1"  # Ray's provider for tests asserts that no type of machine names its memory
    with stage(folder, f"--autoscaling-config={file}", nodes=1, cpus=0, port=port, variables=variables) as parts:
        yield parts
