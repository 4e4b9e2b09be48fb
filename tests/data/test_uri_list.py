"""Lists of images as input: URIs of any storage, keys, what is carried, and what is wrong with a row or a list."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.data import tables
from pipeline.data.formats import ColumnNames
from pipeline.data.formats.uri_list import UriList
from pipeline.data.source import open_source
from pipeline.errors import ConfigError, ShardError, StorageError
from tests.helpers.reads import read_sizes
from tests.helpers.shards import fetched_rows, listed, parquet_bytes
from tests.helpers.web_server import web_server


def read(uri: str, folder: Path, max_bytes: int = 2**30, **columns: Any) -> dict[str, Any]:
    """Bytes, or the stage that failed, by key."""
    source = open_source(uri, "list", columns=ColumnNames(**columns)).limited(max_bytes)
    rows = fetched_rows(source, listed(source, folder / "manifest"))
    found = {row["key"]: row["image"] or row["stage"] for row in rows}
    assert len(found) == len(rows)
    return found


def csv_of(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def test_one_list_may_name_images_of_every_storage(tmp_path: Path, bucket: str) -> None:
    storage.put_whole(f"{tmp_path}/in/a b.jpg", b"local")
    storage.put_whole(f"{bucket}/deep/b.jpg", b"bucket")
    with web_server() as web:
        web.objects["/c.jpg"] = b"web"
        uris = [f"{tmp_path}/in/a b.jpg", f"{bucket}/deep/b.jpg", f"{web.url}/c.jpg"]
        wanted = dict(zip(uris, (b"local", b"bucket", b"web"), strict=True))
        lists = {
            "l.txt": "\r\n".join(["", *uris, "", ""]).encode("utf-16"),
            "l.csv": csv_of("site,url", *(f'x,"{uri}"' for uri in uris)),
            "l.parquet": parquet_bytes(pa.table({"n": [1, 2, 3], "uri": pa.array(uris).dictionary_encode()}), 2),
        }
        for name, data in lists.items():
            for place in (f"{tmp_path}/lists-{name}", f"{bucket}/lists"):
                storage.put_whole(f"{place}/{name}", data)
                assert read(f"{place}/{name}", tmp_path / name) == wanted
        web.ranges = False
        assert read(f"{tmp_path}/lists-l.csv/l.csv", tmp_path) == wanted


def test_keys_are_uris_or_a_column_wherever_the_list_lies(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/in/a.jpg", b"1")
    storage.put_whole(f"{tmp_path}/in/b.jpg", b"2")
    storage.put_whole(f"{tmp_path}/in/l.csv", csv_of("", "uri,id,name", "a.jpg,007,x", "../in/b.jpg,,y"))
    assert read(f"{tmp_path}/in/l.csv", tmp_path) == {"007": b"1", f"{tmp_path}/in/b.jpg": b"2"}
    assert read(f"{tmp_path}/in/l.csv", tmp_path, key="name") == {"x": b"1", "y": b"2"}
    assert open_source(f"{tmp_path}/in/l.csv", "list").keys_below == ""
    assert open_source(f"{tmp_path}/in/l.csv", "list").reading == [
        f"{tmp_path}/in/l.csv: URIs from column `uri`, keys from `id`"
    ]


def test_what_is_wrong_with_a_row_costs_that_row(tmp_path: Path, bucket: str) -> None:
    for name, data in {"a.jpg": b"1", "empty.jpg": b""}.items():
        storage.put_whole(f"{tmp_path}/in/{name}", data)
    (tmp_path / "in/folder.jpg").mkdir()
    storage.put_whole(f"{bucket}/folder/x.jpg", b"x")
    storage.put_whole(f"{bucket}/empty.jpg", b"")
    uris = ["a.jpg", "gone.jpg", "a.jpg", "", "folder.jpg", "s3:/one-slash", "nothing://x", "a.jpg,too many"]
    uris += [
        f"{bucket}/folder",
        f"{bucket}/folder/",
        f"{bucket}/empty.jpg",
        f"{tmp_path}/in/empty.jpg",
        "s3://no-such-bucket/x.jpg",
        "http://127.0.0.1:9/x.jpg",
        "caf\udce9",
    ]
    lines = "\n".join(["uri,k", *(f"{uri},{n}" for n, uri in enumerate(uris))])
    storage.put_whole(f"{tmp_path}/in/l.csv", lines.encode(errors="surrogateescape"))
    found = read(f"{tmp_path}/in/l.csv", tmp_path)
    at, missing = f"{tmp_path}/in/", "fetch"
    assert found == {
        f"{at}a.jpg": b"1",
        f"{at}gone.jpg": missing,
        "l.csv#2": "list",
        "l.csv#3": "list",
        f"{at}folder.jpg": missing,
        "l.csv#5": "list",
        "nothing://x": missing,
        "l.csv#7": "list",
        f"{bucket}/folder": missing,
        f"{bucket}/folder/": missing,
        f"{bucket}/empty.jpg": None,
        f"{at}empty.jpg": None,
        "s3://no-such-bucket/x.jpg": missing,
        "http://127.0.0.1:9/x.jpg": missing,
        rf"{at}caf\xe9": missing,
    }


def test_an_image_beyond_the_limit_is_not_read_whole(tmp_path: Path, bucket: str) -> None:
    limit = 5 * 2**20
    for place in (f"{tmp_path}/in", bucket):
        storage.put_whole(f"{place}/large.jpg", bytes(limit + 1))
        storage.put_whole(f"{place}/fits.jpg", bytes(limit))
        storage.put_whole(f"{place}/l.txt", b"large.jpg\nfits.jpg\n")
        found = read(f"{place}/l.txt", tmp_path, limit)
        assert found == {f"{place}/large.jpg": "fetch", f"{place}/fits.jpg": bytes(limit)}


def test_a_secret_in_a_list_is_used_and_never_written(tmp_path: Path) -> None:
    with web_server() as web:
        web.objects |= {"/a.jpg": b"1", "/b.jpg": b"2"}
        uris = [f"{web.url}/{name}.jpg?X-Amz-Signature=hidden{name}" for name in "ab"]
        table = pa.table({"uri": [uris[0], f"{web.url}/a.jpg", uris[1]], "key": ["x", "y", "z"]})
        storage.put_whole(f"{tmp_path}/in/l.parquet", parquet_bytes(table, 1))
        assert read(f"{tmp_path}/in/l.parquet", tmp_path) == {"x": b"1", "y": b"1", "z": b"2"}
        assert any("hiddena" in asked for asked in web.asked)
    written = [pq.read_table(path).to_pydict() for path in (tmp_path / "manifest").iterdir()]
    assert "hidden" not in str(written)
    assert "***" in str(written)
    reader = UriList()
    [entry] = storage.list_folder(f"{tmp_path}/in/l.parquet")
    [rows] = list(reader.index(entry))[:1]
    storage.put_whole(f"{tmp_path}/in/l.parquet", parquet_bytes(table.slice(1), 1))
    [[(_, changed)]] = reader.fetch(entry.root, rows[:1])
    assert "run again to list anew" in str(changed)


def test_addresses_that_differ_in_their_queries_are_images_of_their_own(tmp_path: Path) -> None:
    """In the list of one day and in that of the next, which go on in one output."""
    with web_server() as web:
        web.objects["/get"] = b"x"
        days = [[f"{web.url}/get?id={n}&token=hidden{n}" for n in numbers] for numbers in ((1, 2, 3), (777,))]
        found = []
        for uris in days:
            storage.put_whole(f"{tmp_path}/l.txt", csv_of(*uris))
            found.append(read(f"{tmp_path}/l.txt", tmp_path / "manifest"))
        wanted = {uri.partition("?")[2] for day in days for uri in day}
        assert {asked.partition("?")[2] for asked in web.asked} == wanted
    assert found == [{f"{web.url}/get?id={n}&token=***": b"x" for n in numbers} for numbers in ((1, 2, 3), (777,))]


@pytest.mark.parametrize("end", ["?SECRET", "#access_token=SECRET", ";jsessionid=SECRET", "?a=1&token=SECRET#SECRET"])
def test_a_secret_is_written_nowhere_whatever_its_form(tmp_path: Path, end: str) -> None:
    with web_server() as web:
        web.objects |= {"/a.jpg": b"1", "/a.jpg;jsessionid=SECRET": b"1"}
        storage.put_whole(f"{tmp_path}/l.txt", csv_of(f"{web.url}/a.jpg{end}", f"{web.url}/gone.jpg{end}"))
        source = open_source(f"{tmp_path}/l.txt", "list")
        rows = fetched_rows(source, listed(source, tmp_path / "manifest"))
    assert [row["image"] for row in rows] == [b"1", None]
    written = [pq.read_table(path).to_pydict() for path in (tmp_path / "manifest").iterdir()]
    assert "SECRET" not in f"{written} {rows}"


@pytest.mark.parametrize("place", ["disk", "bucket"])
@pytest.mark.parametrize(
    "now",
    [None, "", "uri\n", "a,b\n1,2\n", "x,y\nhttps://h/1,2\n", "uri\ns3:/x\nhttps://h/b.jpg?sig=2\n", "uri\n,\n,\n"],
)
def test_a_list_that_is_replaced_costs_the_rows_that_it_no_longer_has(
    request: pytest.FixtureRequest, tmp_path: Path, place: str, now: str | None
) -> None:
    uri = f"{tmp_path if place == 'disk' else request.getfixturevalue('bucket')}/l.csv"
    with web_server() as web:
        web.objects["/b.jpg"] = b"2"
        storage.put_whole(uri, f"uri\n{web.url}/a.jpg?sig=1\n{web.url}/b.jpg?sig=2\n".encode())
        reader = UriList()
        [entry] = storage.list_folder(uri)
        [rows] = reader.index(entry)
        if now is None:
            storage.delete(uri)
        else:
            storage.put_whole(uri, now.replace("https://h", web.url).encode())
        [[(_, first), (_, second)]] = reader.fetch(entry.root, rows)
    assert isinstance(first, ShardError)
    if now and "b.jpg" in now:
        assert second == b"2"
    else:
        assert isinstance(second, ShardError)


@pytest.mark.parametrize("name", ["l.parquet", "l.csv", "l.txt"])
def test_the_addresses_of_a_chunk_are_looked_up_once_and_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of a table of 60 row groups two are read, and of others not what comes behind the last row."""
    with web_server() as web:
        uris = [f"{web.url}/{n}.jpg?X-Amz-Signature={n:064}" for n in range(60_000)]
        files = {
            "l.parquet": parquet_bytes(pa.table({"uri": uris}), 1000, compression="none", use_dictionary=False),
            "l.csv": csv_of("uri", *uris),
            "l.txt": csv_of(*uris),
        }
        storage.put_whole(f"{tmp_path}/{name}", files[name])
        numbers = [*range(3000, 3040), *((40_500, 40_501) if name == "l.parquet" else ())]
        web.objects = {f"/{n}.jpg": f"{n}".encode() for n in numbers}
        reader = UriList()
        [entry] = storage.list_folder(f"{tmp_path}/{name}")
        listed = [row for some in reader.index(entry) for row in some]
        sizes = read_sizes(monkeypatch)
        monkeypatch.setattr(tables, "_BUFFER_BYTES", 2**16)
        found = [pair for part in reader.fetch(entry.root, [listed[n] for n in numbers]) for pair in part]
    assert {row["row"]: data for row, data in found} == {n: f"{n}".encode() for n in numbers}
    assert sum(sizes) < len(files[name]) / 5


def test_containers_of_one_account_are_told_apart(tmp_path: Path) -> None:
    uris = [f"abfs://{name}@account.dfs.core.windows.net/a.jpg" for name in ("photos", "scans")]
    storage.put_whole(f"{tmp_path}/l.txt", "\n".join(uris).encode())
    [entry] = storage.list_folder(f"{tmp_path}/l.txt")
    [rows] = UriList().index(entry)
    assert [(row["key"], row["source"], row["path"]) for row in rows] == [(uri, uri, uri) for uri in uris]


@pytest.mark.parametrize("name", ["l.csv", "l.txt"])
def test_a_list_of_text_is_read_by_its_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    data = csv_of("uri", *(f"{n}.jpg" for n in range(50_000)))
    storage.put_whole(f"{tmp_path}/{name}", data)
    [entry] = storage.list_folder(f"{tmp_path}/{name}")
    monkeypatch.setattr(tables, "_BUFFER_BYTES", 2**16)
    sizes = read_sizes(monkeypatch)
    assert sum(map(len, UriList().index(entry))) == 50_000 + (name == "l.txt")
    assert len(sizes) < len(data) / 2**16 + 10


def test_columns_are_carried_with_their_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "uri": ["a.jpg", "b.jpg"],
            "camera": pa.array(["x", None]).dictionary_encode(),
            "iso": pa.array([2**60, None], pa.int64()),
            "lat": pa.array([0.1, float("inf")], pa.float32()),
            "day": [True, False],
        }
    )
    storage.put_whole(f"{tmp_path}/l.parquet", parquet_bytes(table, 1))
    carry = ("camera", "iso", "lat", "day")
    source = open_source(f"{tmp_path}/l.parquet", "list", columns=ColumnNames(carry=carry))
    assert source.carried == pa.schema(
        [("camera", pa.string()), ("iso", pa.int64()), ("lat", pa.float64()), ("day", pa.bool_())]
    )
    first, second = (json.loads(row["carried"]) for row in fetched_rows(source, listed(source, tmp_path / "manifest")))
    assert first == {"camera": "x", "iso": 2**60, "lat": pytest.approx(0.1), "day": True}
    assert second == {"camera": None, "iso": None, "lat": float("inf"), "day": False}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"carry": ("carried",)}, "--carry names 'carried', which is a column of the output already"),
        ({"image": "gone"}, "--image-column is 'gone', and .* has no such column"),
        ({"key": "gone"}, "--key-column is 'gone', and .* has no such column"),
        ({"image": "site"}, None),
        ({"carry": ("gone",)}, "--carry names 'gone', and .* has no such column; its columns are left: string, "),
        ({"carry": ("digest",)}, "--carry names 'digest', which is a column of the output already"),
        ({"carry": ("when",)}, r"--carry names 'when', which holds timestamp\[us\]"),
        ({}, "has 3 columns that fit equally, left, right, site; choose one with --image-column"),
    ],
)
def test_a_list_that_cannot_be_read_is_one_error(tmp_path: Path, columns: dict[str, Any], message: str | None) -> None:
    table = pa.table({name: ["x"] for name in ("left", "right", "site")} | {"digest": [b"x"], "carried": [1]})
    table = table.append_column("when", pa.array([0], pa.timestamp("us")))
    storage.put_whole(f"{tmp_path}/l.parquet", parquet_bytes(table, 1))
    if message is None:
        assert read(f"{tmp_path}/l.parquet", tmp_path, **columns) == {f"{tmp_path}/x": "fetch"}
        return
    with pytest.raises(ConfigError, match=message):
        open_source(f"{tmp_path}/l.parquet", "list", columns=ColumnNames(**columns))


@pytest.mark.parametrize("first", ["s3://b/0.jpg", "s3://b/0", "/x/0", "x/0.JPG", "cat,https://h/x?id=0&sig=secret"])
def test_a_csv_without_a_header_is_refused(tmp_path: Path, first: str) -> None:
    """Its first row would be taken for one, and lost."""
    storage.put_whole(f"{tmp_path}/l.csv", f"{first}\n{first}1\n".encode())
    with pytest.raises(
        ConfigError, match=r"l\.csv begins with '.*write them in a line above it; or call.* \.txt"
    ) as told:
        open_source(f"{tmp_path}/l.csv", "list")
    assert "secret" not in str(told.value)


def test_an_input_is_one_list_and_only_by_its_name(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        storage.put_whole(f"{tmp_path}/in/{name}", b"x.jpg")
    with pytest.raises(ConfigError, match="holds 2 lists or more, and an input is one of them"):
        open_source(f"{tmp_path}/in", "list")
    with pytest.raises(StorageError, match=r"ignored: 2 \.txt"):
        open_source(f"{tmp_path}/in", "auto")
    with pytest.raises(StorageError, match="no lists of URIs among"):
        storage.put_whole(f"{tmp_path}/l.jpg", b"x")
        open_source(f"{tmp_path}/l.jpg", "list")


def test_a_damaged_list_gives_what_came_before(tmp_path: Path) -> None:
    storage.put_whole(f"{tmp_path}/a.jpg", b"1")
    buffer = io.BytesIO(b"uri,k\n" + b"\n".join(b"a.jpg,%d" % n for n in range(10_000)) + b'\nb.jpg,"open')
    storage.put_whole(f"{tmp_path}/l.csv", buffer.getvalue() + b"x" * 200_000)
    found = read(f"{tmp_path}/l.csv", tmp_path, key="k")
    assert len(found) == 8192 + 1
    assert found["l.csv"] == "list"
