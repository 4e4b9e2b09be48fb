"""Which images an export has; that it goes on where it was stopped, and mixes with no other."""

import json
import sys
from unicodedata import normalize

import pytest

from pipeline import storage
from pipeline.commands.export import command as job
from pipeline.errors import ConfigError, StorageError
from pipeline.exports import export as module
from pipeline.exports.export import ExportConfig, export
from pipeline.exports.formats import FORMATS
from pipeline.exports.names import FileNames, safe
from pipeline.storage import Uri
from tests.helpers.outputs import blocks, failure, note, put_rows, row


def put_output(folder: str, count: int = 5) -> str:
    """Write an output of so many images, of confidence 0.0, 0.1 ...; only the first has the class sky."""
    info = note(input=f"{folder}/in")
    rows = [row(f"{n}.jpg", blocks(n, classes=3 if n == 0 else 2), info, confidence=n / 10) for n in range(count)]
    put_rows(f"{folder}/out", info, rows, [failure("cut.jpg", info)])
    return f"{folder}/out"


def names(folder: object) -> list[str]:
    return sorted(entry.key for entry in storage.list_files(f"{folder}/SegmentationClass"))


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"classes": ("sky",)}, [0]),
        ({"min_confidence": 0.15, "max_confidence": 0.35}, [2, 3]),
        ({"keys": "1.jpg\n4.jpg\ncut.jpg\nelsewhere.jpg\n"}, [1, 4]),
    ],
)
def test_images_are_chosen_by_class_confidence_and_keys(tmp_path, filters, kept):
    output = put_output(str(tmp_path))
    if "keys" in filters:
        storage.put_whole(f"{tmp_path}/keys.txt", filters["keys"].encode())
        filters = {"keys": Uri(f"{tmp_path}/keys.txt")}
    done = export(ExportConfig(output=Uri(output), to="png", destination=Uri(f"{tmp_path}/to"), **filters))
    assert names(f"{tmp_path}/to") == [f"{n}.png" for n in kept]
    assert done.images == len(kept)


def test_an_export_that_was_stopped_goes_on_and_another_is_refused(bucket, tmp_path, monkeypatch):
    output = put_output(bucket)
    monkeypatch.setattr(FORMATS["coco"], "part_images", 2)
    config = ExportConfig(output=Uri(output), to="coco", destination=Uri(f"{bucket}/to"))
    written = []

    def failing(uri, data):
        if "part-00001" in uri and not written.count("part-00001.json"):
            written.append("part-00001.json")
            raise StorageError("gone for now")
        written.append(uri.rpartition("/")[2])
        storage.objects.put_whole(uri, data)

    monkeypatch.setattr(module.storage, "put_whole", failing)
    with pytest.raises(StorageError, match="gone for now"):
        export(config)
    done = export(config)
    assert (done.images, done.parts) == (5, 3)
    assert written.count("part-00000.json") == 1
    parts = [json.loads(storage.read_bytes(f"{bucket}/to/annotations/part-{n:05d}.json")) for n in range(3)]
    ids = [one["id"] for part in parts for one in part["annotations"]]
    assert len(ids) == len(set(ids)) == 11
    assert [image["file_name"] for part in parts for image in part["images"]] == [f"{n}.jpg" for n in range(5)]
    with pytest.raises(ConfigError, match="not this one: another format"):
        export(ExportConfig(output=Uri(output), to="png", destination=Uri(f"{bucket}/to")))
    later = note(run=2, input=f"{bucket}/in")
    put_rows(output, later, [row("new.jpg", blocks(9), later)])
    with pytest.raises(ConfigError, match="has other files by now"):
        export(config)


@pytest.mark.parametrize("name", ["SegmentationClass/0.png", "_0.png", "masks/a.parquet"])
def test_a_destination_with_files_of_something_else_is_refused(bucket, name):
    output = put_output(bucket)
    storage.put_whole(f"{bucket}/to/{name}", b"drawn by hand")
    config = ExportConfig(output=Uri(output), to="png", destination=Uri(f"{bucket}/to"))
    with pytest.raises(
        ConfigError, match=f"holds '{name}' and no note of an export.* give a destination that is empty"
    ):
        export(config)
    assert storage.read_bytes(f"{bucket}/to/{name}") == b"drawn by hand"
    assert not storage.exists(f"{bucket}/to/labelmap.txt")


def test_an_export_that_was_stopped_before_its_first_part_goes_on(bucket, monkeypatch):
    config = ExportConfig(output=Uri(put_output(bucket)), to="png", destination=Uri(f"{bucket}/to"))

    def failing(uri, data):
        if "ImageSets" in uri:
            raise StorageError("gone for now")
        storage.objects.put_whole(uri, data)

    with monkeypatch.context() as patched, pytest.raises(StorageError, match="gone for now"):
        patched.setattr(storage, "put_whole", failing)
        export(config)
    assert names(f"{bucket}/to") == [f"{n}.png" for n in range(5)]
    assert export(config).images == 5


def test_an_export_of_no_image_may_be_repeated(tmp_path):
    config = ExportConfig(
        output=Uri(put_output(str(tmp_path))), to="png", destination=Uri(f"{tmp_path}/to"), min_confidence=1.0
    )
    assert [export(config).images for _ in range(2)] == [0, 0]


def test_a_library_that_is_missing_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    config = ExportConfig(output=Uri(put_output(str(tmp_path))), to="coco", destination=Uri(f"{tmp_path}/to"))
    with pytest.raises(ConfigError, match="pip install pycocotools"):
        export(config)
    assert not (tmp_path / "to").exists()


def test_what_there_is_not_is_said(tmp_path, capsys):
    output = put_output(str(tmp_path))
    to = ["--to", "coco", "--destination", f"{tmp_path}/to"]
    storage.put_whole(f"{tmp_path}/empty.txt", b"\n")
    assert job.main([output, *to, "--classes", '["sea"]']) == 2
    assert "the masks have no 'sea'; they have ground, tree, sky" in capsys.readouterr().err
    assert job.main([output, *to, "--keys", f"{tmp_path}/empty.txt"]) == 2
    assert "keys: " in capsys.readouterr().err
    assert job.main([output, *to, "--min_confidence=0.9", "--max_confidence=0.1"]) == 2
    with pytest.raises(SystemExit):
        job.main([output, "--to", "gif", "--destination", f"{tmp_path}/to"])
    assert job.main([output, *to]) == 0
    out = capsys.readouterr().out
    assert json.loads(out) == {
        "destination": f"{tmp_path}/to",
        "format": "coco",
        "images": 5,
        "without_picture": 0,
        "parts": 1,
    }


def test_names_of_files_are_apart_and_below_one_folder():
    given = FileNames()
    keys = ["a.jpg", "a.png", "A.jpg", "a.jpg.png", "a", "x.png/y.jpg", "x.jpg", "..", "../..", "", "/", "a/../b.jpg"]
    keys += ["%2E%2E", "long" * 100 + "1", "long" * 100 + "2", "a\\b", "CON:", "end.", "end", " "]
    keys += ["#1.jpg", "#r/a", " b", "\u3000c", "x.geojson/y.jpg", "x.GeoJSON/y.jpg", "A.JPG"]
    keys += ["caf\u00e9.jpg", "cafe\u0301.jpg", "Stra\u00dfe/1.jpg", "strasse/1.jpg", "CON.jpg", "aux/1.tar/Nul .x.jpg"]
    alike = FileNames()
    keys.append([alike.of(key) for key in ("a.jpg", "A.jpg", "A.JPG")][-1])
    paths = [given.of(key) for key in keys]
    assert len({normalize("NFD", normalize("NFD", path).casefold()) for path in paths}) == len(keys)
    files = {f"{path}.{suffix}".lower() for path in paths for suffix in ("png", "jpg", "geojson")}
    for path in paths:
        parts = path.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert path[0] not in "# \u3000"
        assert all(not part.endswith((".", " ", "\u3000")) and not windows_keeps(part) for part in parts)
        assert max(len(part.encode()) for part in parts) <= 200
        assert not {"/".join(parts[:n]).lower() for n in range(1, len(parts))} & files
    assert safe("photos/2026/n\u00e9 e.x") == "photos/2026/n\u00e9 e.x"


@pytest.mark.parametrize("to", FORMATS)
def test_a_folder_that_is_called_like_a_file_stops_no_format(tmp_path, to):
    keys = ["x.jpg", "x.json/y.jpg", "x.png/y.jpg", "x.geojson/y.jpg", "x.jpg/y.jpg"]
    info = note(input=f"{tmp_path}/in")
    put_rows(f"{tmp_path}/out", info, [row(key, blocks(0), info) for key in keys])
    config = ExportConfig(output=Uri(f"{tmp_path}/out"), to=to, destination=Uri(f"{tmp_path}/to"), storage_timeout=0)
    assert export(config).images == len(keys)


def windows_keeps(part: str) -> bool:
    return part.partition(".")[0].strip().lower() in {"con", "prn", "aux", "nul", "com1", "lpt9"}
