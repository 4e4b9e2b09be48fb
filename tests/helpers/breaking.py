"""What the chaos tests break: a run of the job on a Ray cluster, over an S3 server behind a proxy."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s3fs

from pipeline import masks, storage
from tests.helpers.pictures import jpeg, photo
from tests.helpers.ray_cluster import RayCluster, ray_cluster
from tests.helpers.s3_proxy import S3Proxy, s3_proxy
from tests.helpers.servers import SeaweedFS, credentials, new_bucket, seaweedfs

ROOT = Path(__file__).parents[2]
_WAIT_SECONDS = 300.0


@dataclass(frozen=True)
class Stage:
    """The real parts: a cluster whose every request goes through `proxy` to `server`."""

    cluster: RayCluster
    server: SeaweedFS
    proxy: S3Proxy


@contextmanager
def stage(
    folder: Path, *flags: str, nodes: int = 2, cpus: int = 1, port: int = 0, variables: Mapping[str, str] | None = None
) -> Iterator[Stage]:
    """The parts, running for the block, the cluster's nodes with `flags` of `ray start` and environment `variables`.

    The AWS_* variables of this process point at the proxy.
    """
    environment = dict(os.environ)
    with seaweedfs(folder) as server, s3_proxy(server.endpoint) as proxy:
        os.environ.update(credentials(proxy.endpoint))
        try:
            with ray_cluster(nodes, cpus, dict(variables or {}), folder, flags=flags, port=port) as cluster:
                yield Stage(cluster, server, proxy)
        finally:
            os.environ.clear()
            os.environ.update(environment)
            s3fs.S3FileSystem.clear_instance_cache()


class Job:
    """jobs/segment_bucket.py over the `count` pictures of a bucket of its own."""

    def __init__(
        self,
        parts: Stage,
        count: int,
        *flags: str,
        padding: int = 0,
        output: str = "",
        size: tuple[int, int] = (60, 80),
    ) -> None:
        """Put the pictures there, of a height and width, with so many bytes after the end, which no decoder reads."""
        self.parts, self.count, self._flags = parts, count, flags
        self.bucket = new_bucket()
        self.output = output or f"{self.bucket}/out"
        for n in range(count):
            storage.put_whole(f"{self.bucket}/in/{n:04d}.jpg", jpeg(photo(n, *size)) + bytes(padding))
        parts.proxy.requests.clear()

    def start(self, *flags: str) -> None:
        """Start a driver."""
        command = [
            sys.executable,
            "jobs/segment_bucket.py",
            "--input",
            f"{self.bucket}/in",
            "--output",
            self.output,
            "--model=scenes",
        ]
        self.driver = subprocess.Popen(
            [*command, "--commit-seconds=0.5", "--refine.backend=none", "--error-budget=1", *self._flags, *flags],
            cwd=ROOT,
            env=os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": self.parts.cluster.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self, until: Callable[["Job"], object]) -> bool:
        """Wait for a moment of the run; False where the run ended before."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while not until(self):
            if self.driver.poll() is not None:
                return False
            assert time.monotonic() < deadline, "the moment did not come"
            time.sleep(0.02)
        return True

    def end(self) -> tuple[int, dict[str, Any], str]:
        """Exit code, summary (of a run that went well) and messages of the driver, once it has ended."""
        out, err = self.driver.communicate(timeout=2 * _WAIT_SECONDS)
        code = self.driver.returncode
        return code, json.loads(out.splitlines()[-1]) if code == 0 else {}, out + err

    def kill_driver(self) -> None:
        """End the driver by SIGKILL."""
        self.driver.send_signal(signal.SIGKILL)
        self.driver.communicate()

    def account(self) -> masks.Verification:
        """Recount the output; every picture has its row, and none has two."""
        verification = masks.verify(self.output)
        assert verification.problems == ()
        assert verification.segmented + verification.failed == self.count
        return verification


def fetching(job: Job) -> object:
    """The first picture is asked for."""
    return job.parts.proxy.gets(f"{job.bucket}/in")


def committed(job: Job) -> object:
    """The first masks are written."""
    return job.parts.proxy.puts(f"{job.output}/masks")


def staged(job: Job) -> object:
    """The first masks wait for more, in a run that is to be compact."""
    return job.parts.proxy.puts(f"{job.output}/_staged/masks")


def noted(job: Job) -> object:
    """The run has noted its configuration, and takes its lock."""
    return job.parts.proxy.puts(f"{job.output}/_runs")


def listed(job: Job) -> object:
    """The run writes down what it has to do."""
    return [place for place in job.parts.proxy.puts(f"{job.output}/_runs") if "/manifest/" in place]
