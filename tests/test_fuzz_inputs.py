"""Odd inputs: values of --input and --output, folders with odd entries, and tables with odd columns.

Each is read as it stands, counted as ignored, or refused with an error of ours. `make test` tries a few of each kind,
`make fuzz` thousands.
"""

import io
import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline import storage
from pipeline.batch.config import RunConfig
from pipeline.cli import parse
from pipeline.data.formats import formats_read
from pipeline.data.formats.columns import choose_columns
from pipeline.data.formats.format import BY_RULE
from pipeline.data.formats.parquet import Parquet
from pipeline.data.ignored import Ignored
from pipeline.data.index import index_objects, index_shard
from pipeline.data.source import Source, open_source
from pipeline.errors import ConfigError, NoInputError
from pipeline.images import EXTENSIONS
from tests.helpers.dataset import info
from tests.helpers.fuzzing import tried
from tests.helpers.shards import parquet_bytes, tar_bytes

PIECES = (
    *("a", "b: c", "- x", "null", "~", "true", "1", "1e3", "[x]", "{x", "&a", "*", "**", "?", "[", "]", "!", "#", "|"),
    *("'", '"', "%41", "\\", " ", "\t", "\n", "..", ".", "_", "/", "//", ":", "::", "@", "=", "--", "2026-01-01", ">"),
    *("s3://", "S3://b", "s3:/", "file://", "https://h/", "http://[", "http://u:p@h/?x=y", "memory://", "é", "🙂"),
    *("\u2028", "\0", "\udcff"),
)
VALUES = st.text(max_size=8) | st.lists(st.sampled_from(PIECES), max_size=5).map("".join)


def a_path_is_taken_as_it_stands_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "run.yaml").write_text(yaml.safe_dump({"input": text, "output": text}), errors="replace")
        written = yaml.safe_load((Path(folder) / "run.yaml").read_text())["input"]
        by_flags = [f"--input={text}", f"--output={text}"]
        for flags, value in ((by_flags, text), ([f"--config={folder}/run.yaml"], written)):
            try:
                config = parse(RunConfig, "", flags)
            except ConfigError:
                continue
            except SystemExit as refused:  # by the reader of flags and YAML, with its message
                if refused.code != 2:
                    raise
                continue
            scheme, colon, rest = value.partition("://")
            assert config.input == config.output in (value, f"{scheme.lower()}{colon}{rest}")
            resolved = config.resolved()
            assert resolved.resolved() == resolved
            yaml.safe_dump(config.redacted())
        name = text.replace("/", "").replace("\0", "")
        if 0 < len(os.fsencode(name)) < 200 and name not in (".", ".."):
            inside = Path(folder) / name
            inside.mkdir()
            (inside / "a.jpg").write_bytes(b"x")
            assert [storage.read_bytes(entry.uri) for entry in storage.list_files(str(inside))] == [b"x"]


FOLDERS = ("", "sub/", "_temporary/", ".git/", "x.tar/", "sub/_log/", "a b/ü/")
STEMS = ("a", "b", "_a", ".a", "n\nl", "a?*[1]", "ü", os.fsdecode(b"caf\xe9"))
TABLE = pa.table({"id": ["1", "2"], "image": [b"x", b"y"]})
FILES: dict[str, tuple[tuple[str, ...], bytes]] = {
    "image": ((".jpg", ".PNG", ".jpe", ".tiff"), b"x"),
    "other": ((".txt", ".json", "", ".tar.gz", ".jp2"), b"x"),
    "tar": ((".tar", ".TAR"), tar_bytes({"1.jpg": b"x", "2.png": b"y", "2.json": b"{}"})),
    "cut": ((".tar",), tar_bytes({"1.jpg": b"x" * 2000})[:1500]),
    "empty": ((".jpg", ".tar", ".parquet", ".txt"), b""),
    "table": ((".parquet", ".Parquet"), parquet_bytes(TABLE, 1)),
    "words": ((".parquet",), parquet_bytes(pa.table({"words": ["x"]}), 1)),
    "own": ((".parquet",), parquet_bytes(TABLE.replace_schema_metadata(info().to_metadata()), 1)),
}
"""Suffixes and bytes of each kind."""


@st.composite
def folders(draw: st.DrawFn) -> dict[str, str]:
    """Kind of file by its path."""
    found = {}
    for kind in draw(st.lists(st.sampled_from([*FILES, "link"]), max_size=9)):
        suffixes = FILES[kind][0] if kind in FILES else (".jpg", ".tar")
        place = draw(st.sampled_from(FOLDERS)) + draw(st.sampled_from(STEMS)) + draw(st.sampled_from(suffixes))
        found[place] = kind
    return found


def accounted(files: dict[str, str]) -> tuple[int, Counter[str]]:
    """How many rows are listed, and what is ignored, as the README has it."""
    rows, ignored, hidden = 0, Counter[str](), set[str]()
    for key, kind in files.items():
        *parents, name = key.split("/")
        suffix = Path(name).suffix.lower()
        marked = [parent.startswith(("_", ".")) for parent in parents]
        marked.append(name.startswith(".") or (name.startswith("_") and suffix not in EXTENSIONS))
        utf8 = key.encode(errors="replace") == os.fsencode(key)
        if any(marked):
            hidden.add("/".join(key.split("/")[: marked.index(True) + 1]))
        elif kind == "link":
            ignored["broken links"] += 1
        elif suffix == ".parquet" and files.get(f"{key.rpartition('.')[0]}.tar", "link") != "link":
            ignored["metadata files"] += 1
        elif kind in ("words", "own") and utf8:
            ignored["other tables" if kind == "words" else "output files"] += 1
        elif kind == "other" or suffix == ".txt":
            ignored["others"] += 1
        else:
            rows += 2 if kind in ("tar", "table") and utf8 else 1
    if hidden:
        ignored["hidden names"] = len(hidden)
    return rows, ignored


def every_entry_is_a_row_or_counted(files: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        for key, kind in files.items():
            path = Path(root) / key
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "link":
                path.symlink_to("nowhere")
            else:
                path.write_bytes(FILES[kind][1])
        source, ignored = Source(uri=root, root=root, formats=formats_read("auto")), Ignored()
        rows = list(_rows(source, ignored))
        kinds = ("hidden names", "broken links", "metadata files", "other tables", "output files")
        counts = Counter({kind: ignored.counts[kind] for kind in kinds if ignored.counts[kind]})
        counts["others"] = ignored.counts.total() - counts.total()
        wanted, left_out = accounted(files)
        assert (len(rows), +counts) == (wanted, left_out)
        assert len({row["key"] for row in rows}) == len(rows)
        "\n".join(ignored.lines()).encode()
        if any(row["error"] is None for row in rows):
            open_source(root, "auto")


def _rows(source: Source, ignored: Ignored) -> Iterator[dict[str, Any]]:
    for entry in source.entries(ignored):
        reader = source.reader(entry)
        try:
            tables = list(index_shard(entry, reader)) if reader.is_shard else [index_objects([entry], reader)]
        except NoInputError as error:
            ignored.add_no_input(error)
            continue
        for table in tables:
            yield from table.to_pylist()


NAMES = (
    *("image", "img", "id", "key", "path", "name", "mask", "label", "sha256", "bytes"),
    *("image.bytes", "a.b", "", " ", "ü"),
)
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TYPES: tuple[tuple[pa.DataType, tuple[Any, ...]], ...] = (
    (pa.binary(), (b"x", b"\xff", b"")),
    (pa.large_binary(), (b"y", b"\\x00")),
    (pa.binary(16), (uuid.UUID(int=7).bytes,)),
    (pa.binary(3), (b"abc",)),
    (pa.uuid(), (uuid.UUID(int=8).bytes,)),
    (pa.string(), ("a", "é", "")),
    (pa.large_string(), ("b", "a/b")),
    (pa.int64(), (0, -5)),
    (pa.uint8(), (255,)),
    (pa.float64(), (0.5,)),
    (pa.bool_(), (True,)),
    (pa.timestamp("us"), (1,)),
    (pa.list_(pa.binary()), ([b"x"],)),
    (STRUCT, ({"bytes": b"s", "path": "p"}, {"bytes": None, "path": "q"})),
    (pa.struct([("bytes", pa.binary()), ("path", pa.null())]), ({"bytes": b"v", "path": None},)),
    (pa.struct([("bytes", pa.binary()), ("path", pa.float64())]), ({"bytes": b"w", "path": 0.5},)),
    (pa.struct([("bytes", pa.string())]), ({"bytes": "t"},)),
    (pa.struct([("bytes", STRUCT)]), ({"bytes": {"bytes": b"u", "path": None}},)),
    (pa.dictionary(pa.int32(), pa.string()), ("c", "d")),
    (pa.dictionary(pa.int32(), pa.int64()), (3,)),
    (pa.null(), (None,)),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, int]:
    """A table of few rows, and the size of its row groups."""
    count = draw(st.integers(0, 4))
    names = draw(st.lists(st.sampled_from(NAMES), max_size=4))
    arrays = []
    for _ in names:
        kind, values = draw(st.sampled_from(TYPES))
        cells = draw(st.lists(st.none() | st.sampled_from(values), min_size=count, max_size=count))
        arrays.append(pa.array(cells, kind))
    return pa.Table.from_arrays(arrays, names), draw(st.integers(1, 3))


def every_row_has_its_image_or_an_error(drawn: tuple[pa.Table, int]) -> None:
    table, group = drawn
    storage.put_whole("memory://fuzz/t.parquet", parquet_bytes(table, group))
    [entry] = storage.list_files("memory://fuzz/t.parquet")
    try:
        rows = [row for part in index_shard(entry, Parquet()) for row in part.to_pylist()]
    except NoInputError:
        return
    assert len({row["key"] for row in rows}) == len(rows)
    assert {row["error"] for row in rows} <= {None, "ShardError", "ConfigError"}
    if any(row["error"] == "ConfigError" for row in rows):
        assert [row["key"] for row in rows] == ["t.parquet"]
        return
    read = pq.ParquetFile(io.BytesIO(parquet_bytes(table, group))).read()
    column = choose_columns(read.schema, "", BY_RULE).image
    cells = read[column.name].to_pylist()
    wanted = [cell and cell[column.field] if column.field else cell for cell in cells]
    assert [row["row"] for row in rows] == list(range(len(table)))
    good = [row for row in rows if row["error"] is None]
    images = {row["row"]: data for some in Parquet().fetch(entry.root, good) for row, data in some}
    assert images.keys() == {row["row"] for row in good}
    for number, data in images.items():
        assert data == wanted[number] if isinstance(data, bytes) else wanted[number] is None


@pytest.mark.parametrize("size", ["short", pytest.param("long", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("inputs", "check", "counts"),
    [
        (VALUES, a_path_is_taken_as_it_stands_or_refused, {"short": 25, "long": 3_000}),
        (folders(), every_entry_is_a_row_or_counted, {"short": 100, "long": 20_000}),
        (tables(), every_row_has_its_image_or_an_error, {"short": 150, "long": 10_000}),
    ],
    ids=("flags", "listings", "tables"),
)
def test_odd_inputs(
    inputs: st.SearchStrategy[Any], check: Callable[[Any], None], counts: dict[str, int], size: str
) -> None:
    with redirect_stderr(io.StringIO()):
        tried(counts[size])(given(inputs)(check))()
