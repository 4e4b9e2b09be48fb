"""A format that this project does not have, zip: with one class and one line the job and training read it."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.batch.listing import list_input
from pipeline.data import formats, rows
from pipeline.data.formats.format import Encoded, Fetched, Format, OnUnpaired, Pair
from pipeline.data.formats.pairing import paired_by_name
from pipeline.data.formats.shard import by_file, opened
from pipeline.data.grouping import fetched_together
from pipeline.data.labelled import list_pairs
from pipeline.data.labelled.pairs import fetch
from pipeline.data.rows import Row
from pipeline.data.source import open_source
from pipeline.errors import ShardError
from pipeline.images import EXTENSIONS
from pipeline.labels import Labels
from tests.helpers.labelled import CLASSES, pair, png
from tests.helpers.shards import fetched


@dataclass(frozen=True)
class Zip(Format):
    """Members of a zip, in the order of its directory, called by their names without the extension."""

    name = "zip"
    suffixes = frozenset({".zip"})
    files = "zip files"

    def index(self, entry: storage.Entry) -> Iterator[list[Row]]:
        with archive(entry.uri, entry.version) as members:
            infos = list(enumerate(members.infolist()))
        images = [(n, info) for n, info in infos if PurePosixPath(info.filename).suffix.lower() in EXTENSIONS]
        yield [
            rows.within(entry, str(PurePosixPath(info.filename).with_suffix("")))
            | {"row": n, "length": info.file_size, "name": info.filename}
            for n, info in images
        ]

    def pairs(self, entry: storage.Entry, on_unpaired: OnUnpaired) -> Iterator[Pair]:
        return paired_by_name(self, entry, (row for some in self.index(entry) for row in some), on_unpaired)

    def fetch(self, root: str, rows: Sequence[Row]) -> Iterator[Fetched]:
        for some in fetched_together(rows):
            for path, version, group in by_file(some):
                try:
                    with archive(storage.join(root, path), version) as members:
                        infos = members.infolist()
                        data: list[Encoded] = [members.read(infos[row["row"]]) for row in group]
                except ShardError as error:
                    data = [error] * len(group)
                yield list(zip(group, data, strict=True))


@contextmanager
def archive(uri: str, version: str) -> Iterator[zipfile.ZipFile]:
    try:
        with opened(uri, version, "zip") as stream, zipfile.ZipFile(stream) as members:
            yield members
    except zipfile.BadZipFile as error:
        raise ShardError(f"{storage.redact(uri)} is not a readable zip: {error}") from error


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats.FORMATS, "zip", Zip())


def test_the_job_lists_and_fetches_it(tmp_path: Path) -> None:
    good = zipped({"a.jpg": b"one", "b/c.PNG": b"two", "notes.txt": b"no"})
    storage.put_whole(f"{tmp_path}/in/1.zip", good)
    storage.put_whole(f"{tmp_path}/in/2.zip", zipped({"d.jpg": b"three" * 100}).replace(b"three" * 100, b"other" * 100))
    storage.put_whole(f"{tmp_path}/in/3.zip", good[:-10])
    storage.put_whole(f"{tmp_path}/in/notes.jpg", b"x")
    assert open_source(f"{tmp_path}/in", "auto").formats["zip"] == Zip()
    found = {row["key"]: row for row in fetched(f"{tmp_path}/in", tmp_path)}
    wanted = {"1.zip/a": b"one", "1.zip/b/c": b"two", "2.zip/d": None, "3.zip": None, "notes.jpg": b"x"}
    assert {key: row["image"] for key, row in found.items()} == wanted
    assert (found["2.zip/d"]["stage"], found["2.zip/d"]["error"]) == ("fetch", "ShardError")
    assert (found["3.zip"]["stage"], found["3.zip"]["error"]) == ("list", "ShardError")


@pytest.mark.usefixtures("cluster")
def test_names_that_repeat_are_marked_as_in_every_shard(tmp_path: Path) -> None:
    for name in ("1.zip", "2.zip"):
        storage.put_whole(f"{tmp_path}/{name}", zipped({"a.jpg": b"one", "a.png": b"two"}))
    _, found = list_input(open_source(str(tmp_path), "zip"), limit=None)
    listed = pa.concat_tables(ids.table for ids in found).to_pylist()
    wanted = [("1.zip/a", None), ("1.zip#1", "ShardError"), ("2.zip/a", None), ("2.zip#1", "ShardError")]
    assert [(row["key"], row["error"]) for row in listed] == wanted


def test_training_reads_pairs_from_it(tmp_path: Path) -> None:
    members = {}
    for seed in range(3):
        image, mask = pair(seed)
        members |= {f"street/{seed}.png": png(image), f"street/{seed}.mask.png": png(mask)}
    storage.put_whole(f"{tmp_path}/train-0.zip", zipped(members))
    pairs = list_pairs(str(tmp_path), "zip", "train")
    table = fetch(pairs, Labels(classes=CLASSES))
    assert table["key"].to_pylist() == [f"train-0.zip/street/{seed}" for seed in range(3)]
    assert table["problem"].to_pylist() == [None] * 3
    assert [p.image.key for p in pairs if p.image] == [f"train-0.zip/street/{seed}" for seed in range(3)]
