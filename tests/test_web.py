"""Web servers as inputs: with and without ranges, with and without what tells versions apart."""

import io
from collections.abc import Iterator
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
from tests.helpers.web_server import Web, web_server


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as web:
        yield web


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


def test_a_page_s_links_to_itself_and_its_ways_to_write_a_name(web: Web, tmp_path: Path) -> None:
    """Apache sorts by `?C=N`, Caddy begins with `./`, and in HTML `&` is `&amp;`."""
    links = ("?C=N;O=D", "?C=M;O=A", "#top", "./", "../", "/", "./0.png", "./sub/", "b&amp;c.png", "b&amp;c.png")
    page = "".join(f'<a href="{link}">x</a>' for link in links).encode()
    web.objects |= {"/d/": page, "/d/0.png": PICTURES["0.png"], "/d/b&c.png": PICTURES["1.png"]}
    web.objects["/d/sub/2.png"] = PICTURES["2.png"]
    web.headers["Content-Type"] = "text/html"
    wanted = {"0.png": PICTURES["0.png"], "b&c.png": PICTURES["1.png"], "sub/2.png": PICTURES["2.png"]}
    assert read(f"{web.url}/d", tmp_path) == wanted
    assert not any("?" in asked for asked in web.asked)


@pytest.mark.parametrize("head", [200, 501])
def test_an_image_of_a_folder_that_the_server_refuses_is_one_failed_row(web: Web, tmp_path: Path, head: int) -> None:
    web.head = head
    web.objects |= {f"/d/{name}": data for name, data in PICTURES.items()}
    web.refused = {"/d/1.png"}
    source = open_source(f"{web.url}/d", "auto")
    rows = {row["key"]: row for row in fetched_rows(source, listed(source, tmp_path))}
    assert {key: row["image"] for key, row in rows.items()} == PICTURES | {"1.png": None}
    assert "the server answers 403" in rows["1.png"]["message"]
    assert rows["1.png"]["version"] == "None"
    web.status = 503
    with pytest.raises(StorageError) as failed:
        list(storage.list_files(f"{web.url}/d"))
    assert is_outage(failed.value)


def test_links_with_a_query_are_files_of_the_folder(web: Web, tmp_path: Path) -> None:
    web.objects = {"/d/": b'<a href="get?f=0.png">0</a><a href="get?f=1.png">1</a>', "/d/get": PICTURES["0.png"]}
    web.headers["Content-Type"] = "text/html"
    assert read(f"{web.url}/d", tmp_path) == {f"get?f={n}.png": PICTURES["0.png"] for n in range(2)}
    assert {"/d/get?f=0.png", "/d/get?f=1.png"} <= set(web.asked)


def test_a_folder_s_address_has_no_query(web: Web) -> None:
    """Each link of such a page would lead to the page again."""
    web.objects["/d/0.png"] = PICTURES["0.png"]
    for uri in (f"{web.url}/d/?C=M;O=D", f"{web.url}/d?C=M;O=D"):
        with pytest.raises(StorageError, match="the address of one has no query; leave out"):
            list(storage.list_files(uri))


def test_a_folder_that_a_server_knows_by_its_slash_alone(web: Web, tmp_path: Path) -> None:
    web.redirects = False
    web.objects |= {f"/d/{name}": data for name, data in PICTURES.items()} | {"/d/e/3.png": PICTURES["0.png"]}
    for uri in (f"{web.url}/d/", f"{web.url}/d", f"{web.url}/d/*", f"{web.url}/d/**"):
        found = {entry.key for entry in storage.list_files(uri)}
        assert found == set(PICTURES) | ({"e/3.png"} if not uri.endswith("/*") else set())
    assert read(f"{web.url}/d/", tmp_path) == PICTURES | {"e/3.png": PICTURES["0.png"]}
    with pytest.raises(StorageError, match="there is no such bucket, folder or object"):
        list(storage.list_files(f"{web.url}/gone/"))


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
