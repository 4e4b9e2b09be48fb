"""The nightly script in this process, and small HTTP servers for it to meet."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import pytest

NIGHTLY = Path(__file__).parents[2] / "infra/nightly"

_nights = count(1)


class Server(ThreadingHTTPServer):
    """Keeps what is posted; answers what `answer` makes of a method and a path, a status and JSON."""

    def __init__(self, answer: Callable[[str, str], tuple[int, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.posted = answer, list[Any]()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        if body := self.rfile.read(int(self.headers["Content-Length"])):
            self.server.posted.append(json.loads(body))
        self.do_GET()

    def do_GET(self) -> None:
        status, body = self.server.answer(self.command, self.path)
        with suppress(ConnectionError):  # who asked may have ended meanwhile
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts a Server."""
    servers = []

    def start(answer: Callable[[str, str], tuple[int, Any]] = lambda method, path: (200, {})) -> Server:
        servers.append(Server(answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def webhook(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    server = serve()
    monkeypatch.setenv("WEBHOOK_URL", f"{server.url}/secret")
    return server


@pytest.fixture
def run_night(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script as a module."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.syspath_prepend(str(NIGHTLY))
    before = signal.getsignal(signal.SIGTERM)
    yield import_module("run_night")
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def night() -> str:
    """A name no other test gives."""
    return f"night-{next(_nights):03}"  # none is how another begins


@pytest.fixture
def start(run_night: Any, night: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """What a start of the service does on the cluster at `address`; returns its exit code."""

    def run(address: str, *entrypoint: str, retry_seconds: float = 120, again_seconds: float = 0) -> int:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
        code: int = run_night.main(
            ["--night", night, "--", *entrypoint], retry_seconds, poll_seconds=0.2, again_seconds=again_seconds
        )
        return code

    return run
