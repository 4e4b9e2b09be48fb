"""Real parts for the tests: one Ray instance and one S3 server for each process that runs tests."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs

from pipeline.storage import access
from tests.helpers.ray_cluster import AGENT_PORTS, below, kill
from tests.helpers.s3_proxy import S3Proxy, s3_proxy
from tests.helpers.servers import credentials, free_port, new_bucket, seaweedfs

if not Path("/dev/nvidiactl").exists():  # before anything imports triton: without a GPU its interpreter runs kernels
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server on loopback; the AWS_* variables of this process point at it."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server, pytest.MonkeyPatch.context() as environment:
        for name, value in credentials(server.endpoint).items():
            environment.setenv(name, value)
        yield server.endpoint


@pytest.fixture
def bucket(s3_endpoint: str) -> str:
    """The URI of a fresh bucket."""
    return new_bucket()


@pytest.fixture
def proxy(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Before the server; and clients that give up at once, so that no test waits for them."""
    monkeypatch.setattr(access, "_ATTEMPTS", 1)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with s3_proxy(s3_endpoint) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.endpoint)
        yield between
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def cluster(s3_endpoint: str) -> Iterator[None]:
    """A Ray instance of two CPUs that all tests of the session share; its workers know the S3 server."""
    import ray
    from ray._private.node import Node

    # metrics every other second, so that a short run exports them too; processes of one run's tasks serve the next run
    kept = {"RAY_num_workers_soft_limit": "6", "RAY_idle_worker_killing_time_threshold_ms": "3600000"}
    alike = {"RAY_worker_niceness": "0"}  # by itself Ray lets every other process go before its workers
    os.environ.update({"RAY_AUTH_MODE": "disabled", "RAY_metrics_report_interval_ms": "2000"} | kept | alike)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Node, "start_log_monitor", lambda _: None)  # it takes a 15th of a core, and nobody reads logs
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="WARNING")
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def no_cluster_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no test leave a Ray instance behind, which `cluster` would stumble over in whatever test asks for it next."""
    was_up = _is_up()
    yield
    assert was_up or "cluster" in request.fixturenames or not _is_up(), "the test leaves Ray up; let it use `cluster`"


def _is_up() -> bool:
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """A Ray cluster of one CPU, started as an operator starts one; the address that takes jobs."""
    from ray.job_submission import JobSubmissionClient

    ray_command = str(Path(sys.executable).parent / "ray")
    address = f"http://127.0.0.1:{(dashboard := free_port())}"
    command = [
        *(ray_command, "start", "--head", "--block", f"--port={free_port()}", "--num-cpus=1"),
        *(f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}", "--disable-usage-stats"),
        *(f"--{name}={free_port()}" for name in AGENT_PORTS),
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    slow_start = {"RAY_raylet_start_wait_time_s": "300"}  # a busy machine starts it slowly
    environment = os.environ | {"PATH": path, "RAY_AUTH_MODE": "disabled"} | slow_start
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 300
    with pytest.MonkeyPatch.context() as variables:
        variables.setenv("RAY_AUTH_MODE", "disabled")
        while True:
            try:
                JobSubmissionClient(address).submit_job(entrypoint="true")
                break
            except (ConnectionError, RuntimeError):  # no dashboard yet, or no agent that could start a job
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.5)
    yield address
    for part in [process.pid, *below(process.pid)]:  # ending in good order takes half a minute
        kill(part)
    process.wait(60)
