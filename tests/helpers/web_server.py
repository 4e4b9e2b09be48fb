"""A web server over a dictionary, with and without what web servers have."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """A web server over `objects`, by path; and what it does not do."""

    objects: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    length: bool = True
    head: int = 200
    status: int = 200
    refused: set[str] = field(default_factory=set)
    redirects: bool = True
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        path = handler.path.partition("?")[0]
        folder = path.rstrip("/") + "/"
        names = sorted({name[len(folder) :].partition("/")[0] for name in self.objects if name.startswith(folder)})
        data = self.objects.get(path, "".join(f'<a href="{name}">{name}</a>' for name in names).encode())
        status = self.status if path in self.objects or names else 404
        if path in self.refused:
            status = 403
        headers = dict(self.headers)
        if handler.command == "HEAD" and self.head != 200:
            status = self.head
        elif status == 200 and path not in self.objects:
            headers |= {"Content-Type": "text/html"} if path == folder else {"Location": folder}
            status = 200 if path == folder else 301 if self.redirects else 404
        elif status == 200 and self.ranges and (span := re.match(r"bytes=(\d+)-(\d+)", handler.headers["Range"] or "")):
            start, end = int(span[1]), min(int(span[2]) + 1, len(data))
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            data, status = data[start:end], 206
        if self.length:
            headers["Content-Length"] = str(len(data))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(data)


@contextmanager
def web_server() -> Iterator[Web]:
    """Run a web server for the block."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.answer(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        web.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield web
        server.shutdown()
