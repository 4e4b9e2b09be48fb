"""One URI, one filesystem: on local paths, in memory and on a real S3 server."""

import os
import random
import resource
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import fsspec
import pytest

from pipeline import storage
from pipeline.data.source import open_source
from pipeline.errors import ConfigError, MissingError, StorageError
from pipeline.storage import listing
from pipeline.storage.access import bucket_and_key
from pipeline.storage.globs import folder_matcher, split_glob
from pipeline.storage.s3_pages import Listed, Page, Pages
from tests.helpers.servers import LISTER_KEY, SECRET

AWKWARD = ["plain.jpg", "with space.jpg", "we ird#?[1].jpg", "ünï/çødé.jpg", "deep/er/still/x.JPG"]


@pytest.fixture(params=["local", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return str(request.getfixturevalue("bucket")) + "/pre"
    return str(tmp_path / "pre") if request.param == "local" else f"memory://{tmp_path.name}/pre"


def first(uri: str) -> storage.Entry | None:
    return next(storage.list_files(uri), None)


def test_what_is_put_is_listed_and_read(root: str) -> None:
    for i, key in enumerate(AWKWARD):
        storage.put_whole(f"{root}/{key}", bytes([i]) * (i + 1))
    entries = {entry.key: entry for entry in storage.list_files(root)}
    assert sorted(entries) == sorted(AWKWARD)
    assert {key: entry.size for key, entry in entries.items()} == {key: i + 1 for i, key in enumerate(AWKWARD)}
    contents = storage.read_ranges(root, AWKWARD, [None] * 5, [None] * 5)
    assert contents == [bytes([i]) * (i + 1) for i in range(5)]


def test_a_name_may_hold_what_looks_like_a_version(root: str) -> None:
    """Of `a?versionId=7.jpg` s3fs reads `a`."""
    name = "a?versionId=7.jpg"
    storage.put_whole(f"{root}/a", b"another")
    storage.put_whole(f"{root}/{name}", b"this one")
    [entry] = storage.list_folder(f"{root}/{name}")
    assert (entry.key, entry.size) == (name, 8)
    assert storage.read_ranges(root, [name, name], [None, 5], [None, 8]) == [b"this one", b"one"]
    assert storage.read_anywhere([f"{root}/{name}"], 4) == [b"this"]
    assert storage.is_listed(entry.uri, entry.version)
    with storage.opened(entry.uri) as stream:
        assert stream.read() == b"this one"
    storage.probe_object(entry.uri)
    storage.delete(entry.uri)
    assert not storage.exists(entry.uri)
    assert storage.read_bytes(f"{root}/a") == b"another"


def test_version_changes_with_the_object(root: str) -> None:
    storage.put_whole(f"{root}/a.jpg", b"one")
    before = next(storage.list_files(root)).version
    storage.put_whole(f"{root}/a.jpg", b"three")
    assert next(storage.list_files(root)).version != before


def test_what_has_become_a_folder_is_listed_no_more(root: str) -> None:
    storage.put_whole(f"{root}/a.tar/x.jpg", b"x")
    assert not storage.is_listed(f"{root}/a.tar", "1")


def test_an_object_goes_before_what_lies_below_its_name(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a bucket may hold it; the server of the tests may not, so here the names below are made up."""
    storage.put_whole(f"{bucket}/x.tar", b"tar")
    storage.put_whole(f"{bucket}/v1.2", b"")  # marks a folder
    below = {f"{name}/": [[Listed(f"{name}/y.jpg", 1, "e")]] for name in ("x.tar", "v1.2")}
    monkeypatch.setattr(listing, "list_objects", lambda _, prefix: below[prefix])
    [entry] = storage.list_files(f"{bucket}/x.tar")
    assert (entry.uri, entry.key, entry.size) == (f"{bucket}/x.tar", "x.tar", 3)
    assert storage.is_listed(entry.uri, entry.version)
    for folder in ("x.tar/*.jpg", "v1.2"):
        assert [entry.key for entry in storage.list_files(f"{bucket}/{folder}")] == ["y.jpg"]
    monkeypatch.setattr(storage.filesystem(bucket)[0], "call_s3", denied)
    assert [entry.key for entry in storage.list_files(f"{bucket}/x.tar")] == ["y.jpg"]


def denied(*_: object, **__: object) -> None:
    raise PermissionError("Forbidden")


@pytest.mark.parametrize(
    ("path", "bucket", "key"),
    [
        ("photos", "photos", ""),
        ("photos/a?versionId=1//b", "photos", "a?versionId=1//b"),
        (
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine",
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine",
            "",
        ),
        (
            "arn:aws:s3:us-east-1:123456789012:accesspoint:mine/a/b",
            "arn:aws:s3:us-east-1:123456789012:accesspoint:mine",
            "a/b",
        ),
        (
            "arn:aws:s3:us-east-1:123456789012:accesspoint/mine/a/b",
            "arn:aws:s3:us-east-1:123456789012:accesspoint/mine",
            "a/b",
        ),
    ],
)
def test_a_bucket_may_be_an_access_point(path: str, bucket: str, key: str) -> None:
    assert bucket_and_key(storage.filesystem("s3://x")[0], path) == (bucket, key)


def test_ranges_and_a_missing_object_beside_good_ones(root: str) -> None:
    storage.put_whole(f"{root}/a", b"0123456789")
    keys, starts, ends = ["a", "gone", "a", "a"], [0, 0, 8, 5], [3, 3, 10, 5]
    first, missing, last, empty = storage.read_ranges(root, keys, starts, ends)
    assert (first, last, empty) == (b"012", b"89", b"")
    assert isinstance(missing, StorageError)
    assert "gone" in str(missing)


def test_a_missing_object_is_another_error_than_a_storage_that_fails(
    root: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put_whole(f"{root}/a", b"x")
    assert (storage.read_if_there(f"{root}/a"), storage.read_if_there(f"{root}/gone")) == (b"x", None)
    with pytest.raises(MissingError, match="gone: there is no such"):
        storage.read_bytes(f"{root}/gone")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", LISTER_KEY)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        if root.startswith("s3://"):
            with pytest.raises(StorageError, match="access denied") as denied:
                storage.read_if_there(f"{root}/a")
            assert not isinstance(denied.value, MissingError)
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_glob_and_hidden_names(root: str) -> None:
    for key in ("a.jpg", "b.png", "sub/c.jpg", ".hidden.jpg", "sub/._c.jpg", ".folder/d.jpg"):
        storage.put_whole(f"{root}/{key}", b"x")
    assert sorted(e.key for e in storage.list_files(f"{root}/*.jpg")) == ["a.jpg"]
    assert sorted(e.key for e in storage.list_files(f"{root}/**/*.jpg")) == ["a.jpg", "sub/c.jpg"]
    assert sorted(e.key for e in storage.list_files(root)) == ["a.jpg", "b.png", "sub/c.jpg"]


def test_a_key_of_s3_may_have_empty_parts(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As AWS lists it: the test's server takes them out of a key."""
    names = ["in/b.jpg", "in//b.jpg", "in//c::d.jpg"]
    page = Page([Listed(name, 1, name) for name in names], more=False)
    monkeypatch.setattr(listing, "Pages", lambda *_: lambda prefix, after: page)
    entries = list(storage.list_files(f"{bucket}/in"))
    assert [entry.key for entry in entries] == ["b.jpg", "/b.jpg", "/c::d.jpg"]
    fs, path = storage.filesystem(bucket)
    assert [storage.filesystem(entry.uri)[1] for entry in entries] == [f"{path}/{name}" for name in names]
    asked: list[str] = []
    monkeypatch.setattr(fs, "cat_ranges", lambda paths, *a, **k: asked.extend(paths) or [b""] * 3)
    storage.read_ranges(f"{bucket}/in", [entry.key for entry in entries], [None] * 3, [None] * 3)
    assert asked == [f"{path}/{name}" for name in names]


def test_an_object_alone_is_not_its_namesake_without_an_empty_folder(tmp_path: Path) -> None:
    """In memory too `d//x.jpg` and `d/x.jpg` are two; on a disk they are one, whose key is its name."""
    root = f"memory://{tmp_path.name}"
    objects = {"d//x.jpg": b"1", "d/x.jpg": b"2", "d//l.txt": b"x.jpg\n../x.jpg"}
    fs, path = storage.filesystem(root)
    fs.pipe({f"{path}/{key}": data for key, data in objects.items()})
    (tmp_path / "x.jpg").write_bytes(b"3")
    wanted = {f"{root}/d//x.jpg": ("/x.jpg", b"1"), f"{root}/d/x.jpg": ("x.jpg", b"2")}
    wanted[f"file://{tmp_path}//x.jpg"] = ("x.jpg", b"3")
    for uri, (key, data) in wanted.items():
        [entry] = storage.list_files(uri)
        assert entry.key == key
        assert storage.read_ranges(entry.root, [entry.key], [None], [None]) == [data]
    source = open_source(f"{root}/d//l.txt", "list")
    [rows] = [rows for entry in source.entries() for rows in source.reader(entry).index(entry)]
    found = [data for part in source.formats["list"].fetch(source.root, rows) for _, data in part]
    assert found == [b"1", b"2"]


def test_a_glob_lists_no_more_than_what_begins_like_it(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("2025/a.jpg", "2026-11-01/b.jpg", "2026-12-01/c.jpg"):
        storage.put_whole(f"{bucket}/{key}", b"x")
    asked, call = [], Pages.__call__
    monkeypatch.setattr(
        Pages, "__call__", lambda self, prefix, after: (asked.append(prefix), call(self, prefix, after))[1]
    )
    assert [e.key for e in storage.list_files(f"{bucket}/2026-11*/*")] == ["2026-11-01/b.jpg"]
    assert asked == ["2026-11"]


def test_a_folder_may_be_called_like_a_glob(root: str) -> None:
    storage.put_whole(f"{root}/out[1]*/a.jpg", b"x")
    storage.put_whole(f"{root}/out1/b.jpg", b"x")
    assert [e.key for e in storage.list_folder(f"{root}/out[1]*")] == ["a.jpg"]
    assert [e.key for e in storage.list_files(f"{root}/out[1]*/")] == ["a.jpg"]
    assert [e.key for e in storage.list_files(f"{root}/out[1]/*")] == ["out1/b.jpg"]


def test_a_glob_without_a_meaning_says_what_to_write(root: str) -> None:
    with pytest.raises(ConfigError, match=r"\*\*\.jpg: .* write \*\*/\*\.jpg for the files of all folders"):
        first(f"{root}/**.jpg")


@pytest.mark.parametrize("uri", ["s3://photos-*/x", "s3://*", "https://*.host/x"])
def test_buckets_are_not_searched_for(uri: str) -> None:
    with pytest.raises(ConfigError, match="wildcard in the name of its bucket or host"):
        split_glob(uri)


def test_a_glob_may_begin_in_the_first_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    _, top, rest = f"{tmp_path}/a.jpg".split("/", 2)
    entered, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (entered.append(path), scandir(path))[1])
    for slashes in ("/", "file:///"):
        [entry] = storage.list_files(f"{slashes}{top[:-1]}?/{rest}")
        assert (entry.uri, entry.key) == (f"{slashes}{top}/{rest}", f"{top}/{rest}")
        assert storage.read_ranges(entry.root, [entry.key], [None], [None]) == [b"x"]
    names = {path.removeprefix("/").partition("/")[0] for path in entered}
    assert all(len(name) == len(top) for name in names - {""})  # other folders hold no match, and are not entered


@pytest.mark.parametrize(
    ("pattern", "entered", "left_out"),
    [
        ("a*/b/*.jpg", ["a", "ax", "a/b"], ["b", "a/c", "a/b/c"]),
        ("a*/**/b/*.jpg", ["a", "a/b", "a/x/y"], ["b", "b/a"]),
        ("**/*.jpg", ["a", "a/b/c"], []),
        ("**", ["a", "a/b"], []),
        ("a*/**", ["a", "ax", "a/b/c"], ["b", "b/a"]),
        ("*.jpg", [], ["a", "a/b"]),
        ("", ["a", "a/b"], []),
    ],
)
def test_folders_that_cannot_hold_a_match(pattern: str, entered: list[str], left_out: list[str]) -> None:
    matches = folder_matcher(pattern)
    assert [folder for folder in [*entered, *left_out] if matches(folder)] == entered


def test_a_glob_finds_the_same_in_folders_as_in_an_object_store(tmp_path: Path) -> None:
    """Local folders that cannot hold a match are not entered; elsewhere every name is held against the pattern."""
    roots = str(tmp_path), f"memory://{tmp_path.name}"
    folders = ["", "a/", "b/", "a/a/", "a/b/", "ab/b/a/", "b/a/b/a/"]
    for uri in (f"{root}/{folder}{name}" for root in roots for folder in folders for name in ("a.jpg", "b.png")):
        storage.put_whole(uri, b"x")
    rng = random.Random(0)
    for _ in range(300):
        parts = [*rng.choices(["*", "**", "a*", "?", "[ab]"], k=1), *rng.choices(["*", "**", "a", "b", "a*", "?"], k=3)]
        pattern = "/".join([*parts[: rng.randint(0, 4)], rng.choice(["*", "**", "*.jpg", "a*"])])
        found, wanted = (sorted(entry.key for entry in storage.list_files(f"{root}/{pattern}")) for root in roots)
        assert found == wanted, pattern


def test_a_prefix_is_not_its_longer_namesake(root: str) -> None:
    storage.put_whole(f"{root}/day1/a.jpg", b"x")
    storage.put_whole(f"{root}/day10/b.jpg", b"x")
    assert [e.key for e in storage.list_files(f"{root}/day1")] == ["a.jpg"]


def test_one_file_is_listed_under_its_name(root: str) -> None:
    storage.put_whole(f"{root}/only.tar", b"x")
    [entry] = storage.list_files(f"{root}/only.tar")
    assert (entry.key, entry.uri) == ("only.tar", f"{root}/only.tar")


def test_a_failed_local_write_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*out\.parquet: .*File too large"):
            storage.put_whole(f"{tmp_path}/out.parquet", b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_more_than_one_page_of_an_s3_listing_by_the_client(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fs, path = storage.filesystem(bucket)
    fs.pipe({f"{path}/many/{i:05d}.jpg": b"x" for i in range(123)})
    pages, call = [], type(fs).call_s3
    monkeypatch.setattr(Pages, "_read", lambda *_: None)
    monkeypatch.setattr(
        type(fs), "call_s3", lambda self, *a, **k: (pages.append(a), call(self, *a, MaxKeys=50, **k))[1]
    )
    assert [e.key for e in storage.list_files(f"{bucket}/many")] == [f"{i:05d}.jpg" for i in range(123)]
    assert set(pages) == {("list_objects_v2",)}
    assert 3 <= len(pages) <= 8


def test_missing_bucket_is_named(s3_endpoint: str) -> None:
    for probe in (first, storage.probe_writable):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket.*no such bucket"):
            probe("s3://no-such-bucket/x")


def test_a_denied_key_is_an_error_without_the_secret(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"wrong-{SECRET}")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        for probe in (first, storage.probe_writable):
            with pytest.raises(StorageError, match="access denied") as caught:
                probe(bucket)
            assert SECRET not in str(caught.value)
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_server_that_never_answers_is_given_up(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StorageError, match=r"no answer within 1 s") as given_up:
            storage.within(1.0, bucket, "list", lambda: first(bucket))
        assert storage.is_outage(given_up.value)


def test_missing_local_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        first(f"{tmp_path}/nowhere")


@pytest.mark.parametrize(("uri", "package"), [("gs://b/x", "gcsfs"), ("abfs://c/x", "adlfs")])
def test_a_storage_whose_package_is_missing_says_what_to_install(
    uri: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(StorageError, match=rf"cannot open {uri}: .*nstall {package} .* on every machine, by pip"):
        storage.filesystem(uri)


def test_unknown_scheme_is_an_error_of_ours() -> None:
    with pytest.raises(StorageError, match="nosuch"):
        storage.filesystem("nosuch://x/y")


@pytest.mark.parametrize("uri", ["s3://AKIA:hidden@bucket/x", "s3://AKIA:hid/den@bucket/x"])
def test_credentials_in_a_uri_of_s3_are_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(StorageError, match=r"s3://\*\*\*@bucket/x holds credentials") as caught:
        first(uri)
    assert "AKIA" not in str(caught.value)


def test_the_error_of_a_web_server_does_not_show_the_signature() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # answers 501 to everything
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}/model.pt?X-Amz-Signature=hidden"
        with pytest.raises(StorageError, match="Signature=\\*\\*\\*") as caught:
            storage.read_bytes(uri)
        server.shutdown()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("once", [True, False])
def test_what_may_be_wrong_by_then_is_put_once(monkeypatch: pytest.MonkeyPatch, once: bool) -> None:
    puts = []

    class Failing(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            puts.append(self.path)
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(StorageError):
            storage.put_whole("s3://bucket/a", b"x", once=once)
        server.shutdown()
    assert (len(puts) == 1) == once
