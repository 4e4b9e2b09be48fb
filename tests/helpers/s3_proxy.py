"""A small HTTP proxy before the S3 server: it counts requests, and fails in the way that a test sets."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["none", "refuse", "drop", "slow", "refuse-writes", "refuse-completion"]
"""Answer 503; close the connection in the middle of the answer; wait a second before each answer; answer 503 to what
writes; or only to the request that ends an upload in parts."""


@dataclass
class S3Proxy:
    """`endpoint` is what clients are given; `requests` is (method, path without its query) of each request so far.

    `refusals` are the statuses and codes of S3 with which some requests are answered, by method and an object's name.
    """

    endpoint: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    fault: Fault = "none"
    refusals: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)

    def gets(self, prefix: str) -> list[str]:
        """List the objects below `prefix`, as s3://bucket/key, that were asked for by GET."""
        return self._paths("GET", prefix)

    def puts(self, prefix: str) -> list[str]:
        """List the objects below `prefix` that were written."""
        return self._paths("PUT", prefix)

    def _paths(self, method: str, prefix: str) -> list[str]:
        start = f"/{prefix.removeprefix('s3://')}/"
        return [path for asked, path in list(self.requests) if asked == method and path.startswith(start)]


@contextmanager
def s3_proxy(server: str) -> Iterator[S3Proxy]:
    """Run a proxy before `server`, an HTTP endpoint, for the block."""
    target = urlsplit(server).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            proxy.requests.append((self.command, urlsplit(self.path).path))
            refusal = proxy.refusals.get((self.command, urlsplit(self.path).path.rpartition("/")[2]))
            if refusal or self.refuses():
                self.refuse(*(refusal or (503, "")))
                return
            if proxy.fault == "slow":
                time.sleep(1.0)
            self.answer(body)

        def refuse(self, status: int, code: str) -> None:
            body = f"<Error><Code>{code}</Code></Error>".encode() if code and self.command != "HEAD" else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def refuses(self) -> bool:
            ends_upload = self.command == "POST" and "uploadId=" in self.path
            return (
                proxy.fault == "refuse"
                or (proxy.fault == "refuse-writes" and self.command in ("PUT", "POST"))
                or (proxy.fault == "refuse-completion" and ends_upload)
            )

        def answer(self, body: bytes) -> None:
            upstream = http.client.HTTPConnection(target, timeout=60)
            try:
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    upstream.putheader(name, value)
                upstream.endheaders(body)
                response = upstream.getresponse()
                data = response.read()
            except (OSError, http.client.HTTPException):  # the server is down: so is the proxy
                self.close_connection = True
                return
            finally:
                upstream.close()
            self.send_response_only(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            length = response.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", length)
            self.end_headers()
            if proxy.fault == "drop":
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            else:
                self.wfile.write(data)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    proxy = S3Proxy(f"http://127.0.0.1:{listening.server_address[1]}")
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listening.shutdown()
        listening.server_close()
