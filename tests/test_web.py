"""Web servers as inputs: with and without ranges, with and without what tells versions apart."""

import io
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from pipeline import storage
from pipeline.data.source import open_source
from pipeline.errors import ConfigError, MissingError, StorageError
from pipeline.storage import listing
from pipeline.storage.outages import is_outage
from tests.helpers.shards import fetched_rows, listed, parquet_bytes, tar_bytes


@dataclass
class Web:
    """A web server over `objects`, by path; and what it does not do."""

    objects: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    length: bool = True
    head: int = 200
    status: int = 200
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        path = handler.path.partition("?")[0]
        folder = path.rstrip("/") + "/"
        names = sorted({name[len(folder) :].partition("/")[0] for name in self.objects if name.startswith(folder)})
        data = self.objects.get(path, "".join(f'<a href="{name}">{name}</a>' for name in names).encode())
        status = self.status if path in self.objects or names else 404
        headers = dict(self.headers)
        if handler.command == "HEAD" and self.head != 200:
            status = self.head
        elif status == 200 and path not in self.objects:
            headers |= {"Content-Type": "text/html"} if path == folder else {"Location": folder}
            status = 200 if path == folder else 301
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


@pytest.fixture
def web() -> Iterator[Web]:
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


def picture(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (grey, grey, grey)).save(buffer, "png")
    return buffer.getvalue()


PICTURES = {f"{i}.png": picture(i) for i in range(3)}
SHARDS = {
    "a.tar": tar_bytes(PICTURES),
    "a.parquet": parquet_bytes(pa.table({"image": list(PICTURES.values()), "id": ["0", "1", "2"]}), 2),
}


def read(uri: str, folder: Path) -> dict[str, bytes]:
    """Images by key, as the job fetches them."""
    source = open_source(uri, "auto")
    return {row["key"]: row["image"] for row in fetched_rows(source, listed(source, folder))}


def version(uri: str) -> str:
    [entry] = storage.list_files(uri)
    return entry.version


@pytest.mark.parametrize("name", SHARDS)
@pytest.mark.parametrize("query", ["", "?X-Amz-Signature=hidden/x"])
def test_shards_are_read_by_ranges(web: Web, tmp_path: Path, name: str, query: str) -> None:
    web.objects[f"/d/{name}"] = SHARDS[name]
    images = read(f"{web.url}/d/{name}{query}", tmp_path)
    assert images == {f"{name}/{key.removesuffix('.png')}": data for key, data in PICTURES.items()}
    assert {asked.partition("?")[2] for asked in web.asked} == {query.removeprefix("?")}


@pytest.mark.parametrize("name", SHARDS)
@pytest.mark.parametrize("lacks", ["ranges", "length"])
def test_a_server_without_ranges_is_refused_in_one_line(web: Web, tmp_path: Path, name: str, lacks: str) -> None:
    setattr(web, lacks, False)
    web.objects[f"/{name}"] = SHARDS[name]
    with pytest.raises(StorageError, match=r"copy (it|the file) to a storage that serves ranges") as refused:
        read(f"{web.url}/{name}", tmp_path)
    assert "\n" not in str(refused.value)
    assert not is_outage(refused.value)


def test_ranges_that_the_server_ignores_are_not_cut_from_the_whole(web: Web) -> None:
    web.objects["/x"] = b"0123456789"
    assert storage.read_ranges(web.url, ["x", "x", "x"], [2, 8, 20], [5, 30, 25]) == [b"234", b"89", b"56789"[:0]]
    web.ranges = False
    with pytest.raises(StorageError, match="asked for bytes 2 to 4, the server answers 200"):
        storage.read_ranges(web.url, ["x"], [2], [5])
    assert storage.read_ranges(web.url, ["x", "gone"], [None, None], [None, None])[0] == b"0123456789"


@pytest.mark.parametrize("ranges", [True, False])
def test_images_of_a_folder(web: Web, tmp_path: Path, ranges: bool) -> None:
    web.ranges = ranges
    web.objects |= {f"/d/{name}": data for name, data in PICTURES.items()} | {"/d/notes.txt": b"x"}
    for uri in (f"{web.url}/d", f"{web.url}/d/", f"{web.url}/d/*.png", f"{web.url}/d/[0-9].png"):
        assert read(uri, tmp_path) == PICTURES
    assert read(f"{web.url}/d/1.png", tmp_path) == {"1.png": PICTURES["1.png"]}
    assert read(f"{web.url}/d/1.png?sig=*[x]", tmp_path) == {"1.png": PICTURES["1.png"]}


@pytest.mark.parametrize("header", ["ETag", "Content-MD5", "Digest", "Last-Modified"])
def test_a_changed_file_of_equal_size_has_another_version(web: Web, header: str) -> None:
    web.objects |= {"/d/a.png": b"1", "/d/b.png": b"1"}
    web.headers = {header: "one"}
    before = {uri: version(uri) for uri in (f"{web.url}/d/a.png", f"{web.url}/d/a*")}
    assert set(before.values()) == {"1-one"}
    assert storage.is_listed(f"{web.url}/d/a.png", "1-one")
    web.headers = {header: "two"}
    assert all(version(uri) != before[uri] for uri in before)
    assert not storage.is_listed(f"{web.url}/d/a.png", "1-one")


def test_without_any_header_the_size_is_the_version(web: Web) -> None:
    web.objects["/a.png"] = b"12"
    assert version(f"{web.url}/a.png") == "2"
    assert storage.is_listed(f"{web.url}/a.png", "2")
    assert not storage.is_listed(f"{web.url}/a.png", "3")
    assert not storage.is_listed(f"{web.url}/gone.png", "2")


def test_a_server_that_answers_no_head_is_asked_by_get(web: Web, tmp_path: Path) -> None:
    """As for an address of S3 that is signed for GET."""
    web.head = 403
    web.objects["/a.tar"] = SHARDS["a.tar"]
    assert len(read(f"{web.url}/a.tar?sig=x", tmp_path)) == 3


@pytest.mark.parametrize(("status", "outage"), [(503, True), (403, False)])
def test_a_failing_server_is_no_missing_file(web: Web, status: int, outage: bool) -> None:
    web.objects["/a.tar"] = b"x"
    web.status = status
    uri = f"{web.url}/a.tar"
    for ask in (
        storage.read_bytes,
        storage.exists,
        storage.probe_object,
        version,
        lambda uri: storage.is_listed(uri, "1"),
    ):
        with pytest.raises(StorageError, match=f"the server answers {status}") as failure:
            ask(uri)
        assert not isinstance(failure.value, MissingError)
        assert is_outage(failure.value) is outage


@pytest.mark.parametrize("uri", ["http://127.0.0.1:99999/x", "http://127.0.0.1:port/x", "github://x", "zip://x"])
def test_addresses_that_no_library_takes(uri: str) -> None:
    with pytest.raises((StorageError, ConfigError)):
        list(storage.list_files(storage.Uri(uri)))


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"size": 3, "etag": '"a"', "generation": "7"}, "3-a"),
        ({"size": 3, "updated": "t", "generation": "7"}, "3-t"),
        ({"size": 3, "generation": "7"}, "3-7"),
        ({"size": 3, "md5": "d", "modified": "t"}, "3-d"),
        ({"size": 3, "ETag": None}, "3"),
    ],
)
def test_the_version_is_what_a_filesystem_tells(info: dict[str, object], expected: str) -> None:
    assert listing._version(info) == expected
