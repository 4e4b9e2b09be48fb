"""Real parts for the tests: one Ray instance and one S3 server for the whole session."""

import os
from collections.abc import Iterator

import pytest
from servers import credentials, new_bucket, seaweedfs


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


@pytest.fixture(scope="session")
def cluster(s3_endpoint: str) -> Iterator[None]:
    """A Ray instance of two CPUs that all tests of the session share; its workers know the S3 server."""
    import ray

    # metrics once a second, so that a short run exports them too
    os.environ.update({"RAY_AUTH_MODE": "disabled", "RAY_metrics_report_interval_ms": "1000"})
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="WARNING")
    yield
    ray.shutdown()
