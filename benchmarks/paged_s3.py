"""A server that lists made-up names as S3 does, a page of a thousand after a fixed time: no disk, nothing to fetch."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import overload
from urllib.parse import parse_qs, urlsplit

_PAGE = 1000
_ITEM = "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{:032x}&quot;</ETag>"
_REST = "<Size>51234</Size><StorageClass>STANDARD</StorageClass></Contents>"


class Names(Sequence[str]):
    """`count` names in order, made as they are asked for: a thousand in each of many folders."""

    def __init__(self, count: int) -> None:
        """Take how many there are."""
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        folder, number = divmod(index, 4000)
        return f"images/camera-{folder:06d}/{number:04d}.jpg"


@contextmanager
def paged_s3(count: int, seconds: float) -> Iterator[str]:
    """Serve `count` names in any bucket for the block, each answer after so many seconds; yields the endpoint."""
    ours, theirs = (context := get_context("spawn")).Pipe()
    server = context.Process(target=_serve, args=(count, seconds, theirs), daemon=True)
    server.start()
    try:
        yield ours.recv()
    finally:
        server.terminate()
        server.join()


def _serve(count: int, seconds: float, told: Connection) -> None:
    names = Names(count)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            due = time.monotonic() + seconds
            body = _page(names, {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})
            time.sleep(max(due - time.monotonic(), 0.0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.send(f"http://127.0.0.1:{server.server_address[1]}")
    server.serve_forever()


def _page(names: Names, asked: dict[str, str]) -> bytes:
    """Answer ListObjectsV2 (Amazon S3 API reference)."""
    prefix = asked.get("prefix", "")
    after = asked.get("continuation-token") or asked.get("start-after", "")
    first = max(bisect_left(names, prefix), bisect_right(names, after))
    end = bisect_left(names, prefix + "\U0010ffff")
    some = names[first : min(first + _PAGE, end)]
    more = first + len(some) < end
    items = "".join(_ITEM.format(name, n) + _REST for n, name in enumerate(some, start=first))
    token = f"<NextContinuationToken>{some[-1]}</NextContinuationToken>" if more else ""
    told = f"<IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(some)}</KeyCount>{token}"
    space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult {space}>{told}{items}</ListBucketResult>'.encode()
