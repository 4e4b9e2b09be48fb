"""Each export is read back, pixel for pixel, by the library of the tool it is for, where that is light to install.

Label Studio's, FiftyOne's and CVAT's are not: what they read is decoded here as their documentation says, and by
themselves in test_tools.py.
"""

import io
import json
import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from matplotlib.path import Path as Outline
from PIL import Image
from pycocotools.coco import COCO

from pipeline import masks, storage
from pipeline.data.pictures import Pictures
from pipeline.errors import ConfigError, StorageError
from pipeline.exports.export import ExportConfig, export
from pipeline.exports.formats import FORMATS, huggingface
from pipeline.exports.formats.png import label_names
from pipeline.exports.image import ExportedImage
from pipeline.exports.regions import regions
from pipeline.storage import Uri
from tests.helpers.outputs import PALETTE, Mask, blocks, note, put_rows, row
from tests.helpers.pictures import jpeg, photo

HOSTILE = '../up/<b>|"x"\n.jpg'
KEYS = ("a/0.jpg", "a/0.png", HOSTILE, "b.jpg", "gone.jpg")
NAMES = dict(zip(KEYS, ("a/0", "a/0.png", "%2E%2E/up/%3Cb%3E%7C%22x%22%0A", "b", "gone"), strict=True))
MASKS = {key: blocks(seed) for seed, key in enumerate(KEYS)}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An output of five images, one of them with an evil key, and one whose picture is gone."""
    folder = tmp_path_factory.mktemp("export")
    info = note(input=f"{folder}/in/deep", classes=("ground: it", "#tree", "sk|y"))
    rows = []
    for seed, (key, mask) in enumerate(MASKS.items()):
        picture = jpeg(photo(seed))
        if key != "gone.jpg":
            storage.put_whole(f"{folder}/in/deep/{key}", picture)
        rows.append(row(key, mask, info, picture))
    put_rows(f"{folder}/out", info, rows)
    return f"{folder}/out"


def exported(output: str, to: str, folder: Path, **changes: object) -> Path:
    done = export(ExportConfig(output=Uri(output), to=to, destination=Uri(str(folder / to)), **changes))
    assert done.images == 5
    return folder / to


def png(path: Path) -> Mask:
    with Image.open(path) as image:
        return np.array(image)


def test_png_is_read_by_its_list_and_its_colours(output, tmp_path):
    folder = exported(output, "png", tmp_path)
    lines = (folder / "labelmap.txt").read_text().splitlines()
    colours = [tuple(map(int, line.split(":")[1].split(","))) for line in lines[1:]]
    assert [line.split(":")[0] for line in lines[1:]] == ["ground  it", "_#tree", "sk|y"]
    names = (folder / "ImageSets/Segmentation/part-00000.txt").read_text().split("\n")[:-1]
    assert names == list(NAMES.values())
    for name, mask in zip(names, MASKS.values(), strict=True):
        with Image.open(folder / f"SegmentationClass/{name}.png") as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.array(image), mask)
            np.testing.assert_array_equal(np.array(image.convert("RGB")), np.array(colours, np.uint8)[mask])
    assert {path.parts[len(tmp_path.parts)] for path in tmp_path.rglob("*")} == {"png"}  # nothing went up and out


def test_classes_of_one_colour_are_given_others(tmp_path):
    info = note(palette=((9, 9, 9),) * 3)
    put_rows(f"{tmp_path}/out", info, [row("a", blocks(0), info)])
    export(ExportConfig(output=Uri(f"{tmp_path}/out"), to="png", destination=Uri(f"{tmp_path}/png")))
    np.testing.assert_array_equal(png(tmp_path / "png/SegmentationClass/a.png"), blocks(0))
    assert (tmp_path / "png/labelmap.txt").read_text().splitlines()[2] == "tree:128,0,0::"


def test_each_class_has_a_name_of_its_own_in_the_label_map():
    classes = ["a:b", "a b", " a b", "#x", "_#x", "a b_", ":", "::", "sky"]
    assert label_names(classes) == ["a b__", "a b", "a b___", "_#x_", "_#x", "a b_", "_", "__", "sky"]


def test_coco_is_read_by_pycocotools(output, tmp_path, capsys):
    coco = COCO(str(exported(output, "coco", tmp_path) / "annotations/part-00000.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["ground: it", "#tree", "sk|y"]
    assert len(coco.getAnnIds()) == sum(len(np.unique(mask)) for mask in MASKS.values())
    for image in coco.loadImgs(coco.getImgIds()):
        mask = MASKS[image["file_name"]]
        drawn = np.full(mask.shape, 255, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            region = coco.annToMask(annotation).astype(bool)
            drawn[region] = annotation["category_id"] - 1
            ys, xs = region.nonzero()
            assert annotation["area"] == region.sum()
            assert annotation["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        np.testing.assert_array_equal(drawn, mask)


def test_panoptic_segments_are_the_classes(output, tmp_path):
    folder = exported(output, "coco-panoptic", tmp_path, classes=("#tree", "sk|y"))
    content = json.loads((folder / "annotations/panoptic_part-00000.json").read_text())
    assert [tuple(category["color"]) for category in content["categories"]] == list(PALETTE)
    keys = {image["id"]: image["file_name"] for image in content["images"]}
    for annotation in content["annotations"]:
        mask = MASKS[keys[annotation["image_id"]]]
        colours = png(folder / "annotations/panoptic_part-00000" / annotation["file_name"]).astype(int)
        ids = colours @ [1, 256, 65536]  # rgb2id of panopticapi
        np.testing.assert_array_equal(ids, np.where(mask == 0, 0, mask + 1))
        areas = {segment["category_id"]: segment["area"] for segment in annotation["segments_info"]}
        assert areas == {label + 1: (mask == label).sum() for label in (1, 2) if (mask == label).any()}


def unpacked(data: list[int]) -> np.ndarray:
    """Decode @thi.ng/rle-pack, as its readme describes it."""
    bits = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        is_run, length = take(1), take(sizes[take(2)]) + 1
        values += [take(word)] * length if is_run else [take(word) for _ in range(length)]
    assert len(bits) - at < 8
    return np.array(values)


def test_label_studio_draws_each_class_with_its_brush(output, tmp_path):
    folder = exported(output, "label-studio", tmp_path)
    names = [label.get("value") for label in ElementTree.parse(folder / "labels.xml").iter("Label")]
    assert names == ["ground: it", "#tree", "sk|y"]
    for task in json.loads((folder / "tasks/part-00000.json").read_text()):
        mask = MASKS[task["data"]["key"]]
        assert task["data"]["image"].endswith(f"/in/deep/{task['data']['key']}")
        drawn = np.full(mask.shape, 255, np.uint8)
        for result in task["predictions"][0]["result"]:
            alpha = unpacked(result["value"]["rle"]).reshape(*mask.shape, 4)[:, :, 3]
            drawn[alpha > 0] = names.index(result["value"]["brushlabels"][0])
        np.testing.assert_array_equal(drawn, mask)


def test_huggingface_is_read_by_datasets(output, tmp_path):
    folder = exported(output, "huggingface", tmp_path)
    read = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert [type(read.features[name]).__name__ for name in ("image", "mask")] == ["Image", "Image"]
    for one in read:
        np.testing.assert_array_equal(np.array(one["mask"]), MASKS[one["key"]])
        assert (one["image"] is None) == (one["key"] == "gone.jpg")
    np.testing.assert_array_equal(np.array(read[0]["image"]), np.array(Image.open(io.BytesIO(jpeg(photo(0))))))
    note = json.loads(pq.read_schema(folder / "data/part-00000.parquet").metadata[b"huggingface"])
    assert note["info"]["features"]["classes"] == [{"dtype": "string", "_type": "Value"}]  # read by datasets 3 too
    card = (folder / "README.md").read_text()
    assert "| 2 | sk&#124;y |" in card


def test_a_row_group_has_so_many_bytes_that_arrow_reads_it_back(output, tmp_path, monkeypatch):
    file = exported(output, "huggingface", tmp_path) / "data/part-00000.parquet"
    assert pq.read_metadata(file).num_row_groups == 1
    largest = max(len(one["bytes"]) for one in pq.read_table(file)["image"].to_pylist() if one)
    monkeypatch.setattr(huggingface, "_GROUP_BYTES", 2 * largest)
    again = exported(output, "huggingface", tmp_path / "again") / "data/part-00000.parquet"
    groups = [pq.ParquetFile(again).read_row_group(n) for n in range(pq.read_metadata(again).num_row_groups)]
    assert 1 < len(groups) < len(KEYS)
    assert pa.concat_tables(groups).equals(pq.read_table(file))


@pytest.mark.parametrize("to", ["huggingface", "fiftyone"])
def test_pictures_that_are_gone_or_others_by_now_are_told_and_left_out(to, tmp_path, capsys):
    info = note(input=f"{tmp_path}/in")
    first, second = jpeg(photo(1)), jpeg(photo(2))
    put_rows(f"{tmp_path}/out", info, [row(key, blocks(0), info, first) for key in ("a.jpg", "b.jpg", "c.jpg")])
    storage.put_whole(f"{tmp_path}/in/a.jpg", first)
    storage.put_whole(f"{tmp_path}/in/b.jpg", second)
    config = ExportConfig(output=Uri(f"{tmp_path}/out"), to=to, destination=Uri(f"{tmp_path}/to"))
    for _ in range(2):  # the second time all is there, and the same is said
        done = export(config)
        assert (done.images, done.without_picture) == (3, 2)
        told = capsys.readouterr().err
        assert "2 of 3 images are without their picture (the picture 'b.jpg' has changed" in told
        assert "give that place as --input, and another --destination" in told
    if to == "huggingface":
        read = datasets.load_dataset(f"{tmp_path}/to", split="train", cache_dir=f"{tmp_path}/cache")
        assert [one["image"] is None for one in read] == [False, True, True]
    else:
        assert [entry.key for entry in storage.list_files(f"{tmp_path}/to/data")] == ["a.jpg"]
    moved = ExportConfig(**{**vars(config), "input": Uri(f"{tmp_path}/moved")})
    with pytest.raises(ConfigError, match="another input; give another destination"):
        export(moved)


@pytest.mark.parametrize(
    "cause", [ConnectionError("refused"), ClientError({"Error": {"Code": "ExpiredToken"}}, "GetObject")], ids=repr
)
def test_no_picture_is_left_out_because_its_storage_fails(output, tmp_path, monkeypatch, cause):
    def fetch(_, wanted):
        failure = StorageError("cannot read it")
        failure.__cause__ = cause
        return ((picture, failure) for picture in wanted)

    monkeypatch.setattr(Pictures, "fetch", fetch)
    with pytest.raises(StorageError, match="cannot read it"):
        exported(output, "fiftyone", tmp_path)


def test_a_listed_image_of_any_key_has_its_own_address_and_one_in_a_shard_has_none(tmp_path):
    info = note(input="")
    sources = {"cat-1": "s3://photos/cat.jpg", "a": "https://host/get?id=7", "x/1": "s3://photos/x.tar"}
    rows = [row(key, blocks(0), info) | {"source": source} for key, source in sources.items()]
    put_rows(f"{tmp_path}/out", info, rows)
    export(ExportConfig(output=Uri(f"{tmp_path}/out"), to="label-studio", destination=Uri(f"{tmp_path}/to")))
    tasks = json.loads((tmp_path / "to/tasks/part-00000.json").read_text())
    assert {task["data"]["key"]: task["data"]["image"] for task in tasks} == sources | {"x/1": "x/1"}


def test_the_last_of_256_classes_has_a_segment_id_of_two_bytes(tmp_path):
    info = note(classes=tuple(f"class {n}" for n in range(256)), palette=tuple((n, n, n) for n in range(256)))
    mask = np.full((2, 3), 255, np.uint8)
    put_rows(f"{tmp_path}/out", info, [row("a", mask, info)])
    export(ExportConfig(output=Uri(f"{tmp_path}/out"), to="coco-panoptic", destination=Uri(f"{tmp_path}/to")))
    np.testing.assert_array_equal(
        png(tmp_path / "to/annotations/panoptic_part-00000/a.png").astype(int) @ [1, 256, 65536], np.full((2, 3), 256)
    )


def test_fiftyone_finds_a_grey_mask_beside_each_picture(output, tmp_path):
    folder = exported(output, "fiftyone", tmp_path)
    pictures = {str(path.relative_to(folder / "data").with_suffix("")) for path in (folder / "data").rglob("*.jpg")}
    labels = {str(path.relative_to(folder / "labels"))[:-4] for path in (folder / "labels").rglob("*.png")}
    assert pictures == labels == set(NAMES.values()) - {"gone"}
    for key in KEYS[:-1]:
        with Image.open(folder / f"labels/{NAMES[key]}.png") as image:
            assert image.mode == "L"  # OpenCV, by which FiftyOne reads, would take the colours of a palette
            np.testing.assert_array_equal(np.array(image), MASKS[key])
    assert json.loads((folder / "mask_targets.json").read_text())["1"] == "#tree"


def drawn(polygons: list[tuple[int, list[list[tuple[int, int]]]]], shape: tuple[int, int]) -> Mask:
    """Draw polygons with holes, each pixel by its centre; none may lie on another."""
    rows, columns = np.indices(shape)
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    mask = np.full(shape, 255, np.uint8)
    for label, rings in polygons:
        inside = np.zeros(len(centres), bool)
        for ring in rings:
            inside ^= Outline(np.array([*ring, ring[0]])).contains_points(centres)
        where = inside.reshape(shape)
        assert (mask[where] == 255).all()
        mask[where] = label
    return mask


def test_geojson_draws_the_mask_again(output, tmp_path):
    folder = exported(output, "geojson", tmp_path)
    for key, mask in MASKS.items():
        content = json.loads((folder / f"{NAMES[key]}.geojson").read_text())
        assert content["key"] == key
        features = content["features"]
        polygons = [(one["properties"]["id"], one["geometry"]["coordinates"]) for one in features]
        np.testing.assert_array_equal(drawn(polygons, mask.shape), mask)
        assert sum(one["properties"]["pixels"] for one in features) == mask.size


def test_geojson_of_some_classes_draws_these_alone(output, tmp_path):
    folder = exported(output, "geojson", tmp_path, classes=("#tree",))
    for key, mask in MASKS.items():
        features = json.loads((folder / f"{NAMES[key]}.geojson").read_text())["features"]
        assert {one["properties"]["class"] for one in features} <= {"#tree"}
        assert sum(one["properties"]["pixels"] for one in features) == (mask == 1).sum()


def test_regions_are_connected_and_their_borders_meet_themselves_nowhere():
    from skimage.measure import label

    rng = np.random.default_rng(0)
    for _ in range(150):
        shape = tuple(rng.integers(1, 12, 2))
        mask = rng.integers(0, rng.integers(2, 5), shape, dtype=np.uint8)
        found = list(regions(mask, range(5)))
        polygons = [(region.label, [region.exterior, *region.holes]) for region in found]
        np.testing.assert_array_equal(drawn(polygons, shape), mask)
        assert len(found) == label(mask, background=-1, connectivity=1).max()
        for _, rings in polygons:
            assert all(len(set(ring)) == len(ring) for ring in rings)


@pytest.mark.parametrize("to", FORMATS)
def test_a_large_mask_takes_few_bytes_a_pixel(to):
    info, files = note(), {}
    mask = np.zeros((1000, 2000), np.uint8)
    mask[300:500, 700:900] = 1
    encoded = masks.encode(mask, info.palette)
    image = ExportedImage(
        number=0, key="a", source="", mask=mask, png=encoded, confidence=1.0, classes={0: 1.0, 1: 1.0}
    )
    format = FORMATS[to](info=info, put=files.__setitem__, name_of=str)
    format.check()
    tracemalloc.start()
    try:
        format.part(0, [image])
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 8 * mask.size
