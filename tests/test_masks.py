import io
import os
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pipeline import masks, storage
from pipeline.errors import ConfigError, ImageError, StorageError
from tests.helpers.reads import read_sizes
from tests.helpers.shards import encrypted_bytes

PALETTE = masks.pascal_palette(21)


def info(generation="g1", run_id="r1", minute=0, crf=None):
    return masks.DatasetInfo(
        classes=("background", "aeroplane"),
        palette=((0, 0, 0), (128, 0, 0)),
        model="a-model",
        model_digest="ab" * 32,
        crf=crf,
        generation=generation,
        run_id=run_id,
        created=(datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)).isoformat(),
    )


def row(key, mask, run_id="r1"):
    ids, pixels = np.unique(mask, return_counts=True)
    return {
        "key": key,
        "source": f"file:///in/{key}",
        "version": "3-17",
        "digest": "00" * 32,
        "height": mask.shape[0],
        "width": mask.shape[1],
        "mask": {"bytes": masks.encode(mask, PALETTE), "path": f"{key}.png"},
        "confidence": 0.75,
        "classes": [
            {"id": int(i), "name": str(i), "pixels": int(n), "confidence": 0.5}
            for i, n in zip(ids, pixels, strict=True)
        ],
        "model": "a-model",
        "run_id": run_id,
    }


def write(uri, rows, note):
    table = pa.Table.from_pylist(rows, schema=masks.MASKS_SCHEMA.with_metadata(note.to_metadata()))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    storage.put_whole(uri, buffer.getvalue())


def constant(value, shape=(3, 5)):
    return np.full(shape, value, np.uint8)


def test_pascal_colours():
    # the development kit's first 21 classes and its void colour
    colours = {1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 7: (128, 128, 128), 8: (64, 0, 0), 15: (192, 128, 128)}
    colours |= {0: (0, 0, 0), 20: (0, 64, 128), 255: (224, 224, 192)}
    palette = masks.pascal_palette()
    assert palette.shape == (256, 3)
    assert {index: tuple(palette[index].tolist()) for index in colours} == colours
    assert len(np.unique(palette, axis=0)) == 256


@given(
    mask=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)),
    colours=st.integers(1, 256),
)
def test_masks_round_trip_through_any_png_reader(mask, colours):
    palette = masks.pascal_palette(colours)
    png = masks.encode(mask, palette)
    np.testing.assert_array_equal(masks.decode(png), mask)
    with Image.open(io.BytesIO(png)) as image:
        image.verify()
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), mask)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), masks.pascal_palette()[mask])


@pytest.mark.parametrize("shape", [(1, 1), (1, 60000), (60000, 1), (256, 256)])
def test_all_indices_and_unusual_sizes(shape):
    mask = np.arange(shape[0] * shape[1], dtype=np.uint32).astype(np.uint8).reshape(shape)
    np.testing.assert_array_equal(masks.decode(masks.encode(mask, PALETTE)), mask)


def test_masks_that_are_read_only_or_strided():
    mask = np.arange(200, dtype=np.uint8).reshape(10, 20)[::2, ::-1]
    mask.flags.writeable = False
    np.testing.assert_array_equal(masks.decode(masks.encode(mask, PALETTE)), mask)


@pytest.mark.parametrize(
    "mask", [np.zeros((2, 2), np.int64), np.zeros((2, 2, 1), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_what_is_no_mask_is_not_encoded(mask):
    with pytest.raises(ImageError, match="a mask is"):
        masks.encode(mask, PALETTE)


def as_png(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (as_png(Image.new("L", (3, 3), 7)), "mode L"),
        (as_png(Image.new("RGB", (3, 3))), "mode RGB"),
        (as_png(Image.new("RGB", (3, 3)), "JPEG"), "not a readable PNG"),
        (b"", "not a readable PNG"),
        (masks.encode(np.random.default_rng(0).integers(0, 256, (50, 50), dtype=np.uint8), PALETTE)[:-900], "PNG"),
    ],
)
def test_what_is_no_mask_is_not_decoded(data, message):
    with pytest.raises(ImageError, match=message):
        masks.decode(data)


def with_a_map(key, confidence, **more):
    encoded = masks.encode_confidence(np.array(confidence, np.uint8))
    return row(key, constant(1), **more) | {"confidence_map": {"bytes": encoded, "path": None}}


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=70)))
def test_every_confidence_map_survives_encoding(confidence):
    png = masks.encode_confidence(confidence)
    np.testing.assert_array_equal(masks.decode_confidence(png), confidence)
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "L"


def test_a_mask_is_no_confidence_map_and_the_reverse():
    with pytest.raises(ImageError, match="a confidence map is an 8-bit grey PNG"):
        masks.decode_confidence(masks.encode(constant(1), PALETTE))
    with pytest.raises(ImageError, match="mode L, not class ids"):
        masks.decode(masks.encode_confidence(constant(1)))
    with pytest.raises(ImageError, match=r"a confidence map is \(H, W\) uint8, not \(2, 2\) float32"):
        masks.encode_confidence(np.zeros((2, 2), np.float32))


def test_confidence_maps_are_read_where_a_row_has_one(tmp_path):
    folder = tmp_path / "masks"
    write(str(folder / "a.parquet"), [with_a_map("a", [[1, 2]]), with_a_map("b", [[3, 4]])], info(run_id="r1"))
    later = [with_a_map("b", [[5, 6]]), row("c", constant(1))]
    write(str(folder / "b.parquet"), later, info(run_id="r2", minute=1))
    older = pa.Table.from_pylist([row("d", constant(1))], schema=masks.MASKS_SCHEMA).drop_columns(["confidence_map"])
    pq.write_table(older.replace_schema_metadata(info(run_id="r0", minute=-1).to_metadata()), folder / "c.parquet")
    found = {key: confidence.tolist() for key, confidence in masks.read_confidence(str(tmp_path))}
    assert found == {"a": [[1, 2]], "b": [[5, 6]]}
    assert {key for key, _ in masks.read(str(tmp_path))} == set("abcd")
    damaged = with_a_map("e", [[1]]) | {"confidence_map": {"bytes": b"no PNG", "path": None}}
    write(str(folder / "d.parquet"), [damaged], info(run_id="r3", minute=2))
    with pytest.raises(StorageError, match=r"the confidence map of 'e' in .*d\.parquet is damaged"):
        list(masks.read_confidence(str(tmp_path)))


def test_the_schemas():
    assert {field.name: str(field.type) for field in masks.MASKS_SCHEMA} == {
        "key": "string",
        "source": "string",
        "version": "string",
        "digest": "string",
        "height": "int32",
        "width": "int32",
        "mask": "struct<bytes: binary, path: string>",
        "confidence": "float",
        "classes": "list<item: struct<id: int16, name: string, pixels: int64, confidence: float>>",
        "confidence_map": "struct<bytes: binary, path: string>",
        "model": "string",
        "run_id": "string",
    }
    assert masks.ERRORS_SCHEMA.names == ["key", "source", "version", "stage", "error", "message", "run_id"]
    assert {str(field.type) for field in masks.ERRORS_SCHEMA} == {"string"}


def test_the_note_survives_a_file(tmp_path):
    note = info(crf={"iterations": 10, "normalization": "symmetric"})
    write(str(tmp_path / "masks" / "a.parquet"), [row("a", constant(1))], note)
    assert masks.generations(str(tmp_path)) == [note]
    assert masks.DatasetInfo.from_metadata(note.to_metadata(masks.ERRORS_SCHEMA)) == note


def test_a_note_that_cannot_be_compared_or_shown_is_refused():
    good = info().__dict__
    with pytest.raises(ConfigError, match="in UTC"):
        masks.DatasetInfo(**{**good, "created": "2024-01-01T00:00:00+02:00"})
    with pytest.raises(ConfigError, match="as many colours"):
        masks.DatasetInfo(**{**good, "palette": ((0, 0, 0),)})


@pytest.fixture
def dataset(tmp_path):
    for part in range(2):
        rows = [row(f"{part}/{n}.jpg", constant(n, (4, 3 + n))) for n in range(3)]
        write(str(tmp_path / "masks" / f"{part}.parquet"), rows, info())
    return tmp_path


@pytest.mark.parametrize("below", ["", "masks", "masks/0.parquet"])
def test_read_gives_every_mask(dataset, below):
    masks_by_key = dict(masks.read(str(dataset / below)))
    parts = [0] if below.endswith("parquet") else [0, 1]
    assert sorted(masks_by_key) == [f"{part}/{n}.jpg" for part in parts for n in range(3)]
    for key, mask in masks_by_key.items():
        n = int(key[2])
        np.testing.assert_array_equal(mask, constant(n, (4, 3 + n)))


def test_hidden_files_and_other_folders_are_ignored(dataset):
    (dataset / "masks" / "_partial.parquet").write_bytes(b"half a file")
    (dataset / "masks" / ".hidden.parquet").write_bytes(b"half a file")
    (dataset / "masks" / "_temporary").mkdir()
    (dataset / "masks" / "_temporary" / "x.parquet").write_bytes(b"half a file")
    (dataset / "masks" / "README.txt").write_bytes(b"words")
    (dataset / "_runs").mkdir()
    (dataset / "_runs" / "x.parquet").write_bytes(b"no masks here")
    assert len(list(masks.read(str(dataset)))) == 6


def test_the_newest_generation_and_in_it_the_newer_row(tmp_path):
    folder = tmp_path / "masks"
    write(str(folder / "z.parquet"), [row("a", constant(1)), row("b", constant(1))], info("old", "r0", minute=0))
    write(str(folder / "y.parquet"), [row("a", constant(2)), row("b", constant(2))], info("new", "r1", minute=1))
    write(str(folder / "x.parquet"), [row("b", constant(3)), row("c", constant(3))], info("new", "r2", minute=2))

    def values(**which):
        rows = list(masks.read(str(tmp_path), **which))
        assert len(rows) == len(dict(rows)), "a key came twice"
        return {key: int(mask[0, 0]) for key, mask in rows}

    assert values() == {"a": 2, "b": 3, "c": 3}
    assert values(generation="old") == {"a": 1, "b": 1}
    assert [(note.generation, note.run_id) for note in masks.generations(str(tmp_path))] == [
        ("new", "r2"),
        ("old", "r0"),
    ]
    with pytest.raises(ConfigError, match=r"no masks of generation older .* there are: new, old"):
        masks.read(str(tmp_path), generation="older")


def test_a_key_that_failed_last_has_no_mask(tmp_path):
    write(str(tmp_path / "masks" / "old.parquet"), [row("a", constant(1)), row("b", constant(1))], info(run_id="r0"))
    newer = info(run_id="r1", minute=1)
    schema = masks.ERRORS_SCHEMA.with_metadata(newer.to_metadata(masks.ERRORS_SCHEMA))
    (tmp_path / "errors").mkdir()
    pq.write_table(pa.table([["a"]] * 7, schema=schema), tmp_path / "errors" / "new.parquet")
    assert [key for key, _ in masks.read(str(tmp_path))] == ["b"]


def test_no_masks_is_a_clear_error(tmp_path):
    (tmp_path / "errors").mkdir()
    with pytest.raises(StorageError, match="no masks at"):
        masks.read(str(tmp_path))
    with pytest.raises(StorageError):
        masks.read(str(tmp_path / "nowhere"))


def test_foreign_and_damaged_files_are_named(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StorageError, match=r"broken\.parquet"):
        masks.read(str(tmp_path))
    (tmp_path / "broken.parquet").unlink()
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "foreign.parquet")
    with pytest.raises(StorageError, match=r"foreign\.parquet: no 'segmentation' note"):
        masks.read(str(tmp_path))


def test_a_file_of_encrypted_keys_is_named(tmp_path):
    table = pa.Table.from_pylist([row("a", constant(1))], masks.MASKS_SCHEMA.with_metadata(info().to_metadata()))
    storage.put_whole(f"{tmp_path}/masks/r1.parquet", encrypted_bytes(table, "key", plaintext_footer=True))
    with pytest.raises(StorageError, match=r"cannot read the masks in .*r1\.parquet.*verify"):
        list(masks.read(str(tmp_path)))


def test_a_damaged_mask_is_named(tmp_path):
    bad = row("cat.jpg", constant(1))
    bad["mask"]["bytes"] = b"\x89PNG cut"
    write(str(tmp_path / "a.parquet"), [bad], info())
    with pytest.raises(StorageError, match=r"'cat\.jpg' in .*a\.parquet is damaged"):
        list(masks.read(str(tmp_path)))


def test_a_file_is_not_in_memory_as_a_whole(tmp_path, monkeypatch):
    """Arrow would read neighbouring row groups together, and keep them."""
    noise = np.random.default_rng(0).integers(0, 2, (60, 300, 300), np.uint8)
    schema = masks.MASKS_SCHEMA.with_metadata(info().to_metadata())
    table = pa.Table.from_pylist([row(f"{n}", mask) for n, mask in enumerate(noise)], schema=schema)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=6)
    (tmp_path / "masks").mkdir()
    size = (tmp_path / "a.parquet").rename(tmp_path / "masks" / "a.parquet").stat().st_size
    sizes = read_sizes(monkeypatch)
    assert len(list(masks.read(str(tmp_path)))) == 60
    assert masks.verify(str(tmp_path)).segmented == 60
    assert sum(sizes) > 1.5 * size
    assert max(sizes) < size / 5


def test_read_from_a_bucket(bucket):
    write(f"{bucket}/out/masks/a.parquet", [row("a", constant(4))], info("old", minute=0))
    write(f"{bucket}/out/masks/b.parquet", [row("b", constant(5))], info("new", minute=1))
    ((key, mask),) = masks.read(f"{bucket}/out")
    assert (key, int(mask[0, 0])) == ("b", 5)


def test_hugging_face_shows_masks_as_images(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = pytest.importorskip("datasets")
    files = {"data_files": str(dataset / "masks" / "*.parquet"), "cache_dir": str(tmp_path / "cache"), "split": "train"}
    loaded = datasets.load_dataset("parquet", **files)
    assert isinstance(loaded.features["mask"], datasets.Image)
    assert isinstance(loaded.features["confidence_map"], datasets.Image)
    assert loaded[0]["confidence_map"] is None
    assert loaded.features["classes"] == datasets.Features.from_arrow_schema(masks.MASKS_SCHEMA)["classes"]
    assert loaded[1]["mask"].mode == "P"
    np.testing.assert_array_equal(np.asarray(loaded[1]["mask"]), constant(1, (4, 4)))
    assert loaded[1]["classes"] == [{"id": 1, "name": "1", "pixels": 16, "confidence": 0.5}]

    os.makedirs(dataset / "errors")
    schema = masks.ERRORS_SCHEMA.with_metadata(info().to_metadata(masks.ERRORS_SCHEMA))
    pq.write_table(pa.table([["x"]] * 7, schema=schema), dataset / "errors" / "a.parquet")
    loaded = datasets.load_dataset("parquet", **{**files, "data_files": str(dataset / "errors" / "*.parquet")})
    assert loaded[0] == dict.fromkeys(masks.ERRORS_SCHEMA.names, "x")


def test_duckdb_and_pandas_read_the_rest(dataset):
    duckdb, pandas = pytest.importorskip("duckdb"), pytest.importorskip("pandas")
    pixels = duckdb.sql(
        f"""SELECT c.name, sum(c.pixels)::INT FROM (SELECT unnest(classes) AS c FROM '{dataset}/masks/*.parquet')
            GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    assert pixels == [("0", 24), ("1", 32), ("2", 40)]
    frame = pandas.read_parquet(dataset / "masks")
    assert frame["width"].tolist() == [3, 4, 5] * 2
    np.testing.assert_array_equal(masks.decode(frame["mask"][2]["bytes"]), constant(2, (4, 5)))
