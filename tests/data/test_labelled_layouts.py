"""Labelled data in each layout: the same pairs come out, and splits are kept apart."""

import io
import os
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.data.formats import ColumnNames
from pipeline.data.labelled import labels, list_pairs
from pipeline.data.labelled.pairs import decode, fetch
from pipeline.data.labelled.splits import in_split
from pipeline.data.source import open_source
from pipeline.errors import ConfigError, ShardError, StorageError
from pipeline.labels import VOC_CLASSES, Labels
from tests.helpers.dataset import info
from tests.helpers.labelled import CLASSES, PUT, jpeg, pair, png
from tests.helpers.shards import fetched_rows, listed, parquet_bytes, tar_bytes

KNOWN = Labels(classes=CLASSES)
ENDS = (".png", ".mask.png")


@pytest.mark.parametrize("layout", PUT)
def test_every_pair_is_found_whole(bucket, layout):
    PUT[layout](bucket, "train", 7)
    PUT[layout](bucket, "val", 2)
    found = list_pairs(bucket, layout, "train")
    table = fetch(found, KNOWN)
    assert table["key"].to_pylist() == [p.key for p in found]
    assert table["problem"].to_pylist() == [None] * 7
    assert len({p.key for p in found}) == 7
    by_mask = {pair(seed)[1].tobytes(): pair(seed)[0] for seed in range(7)}
    for row in table.to_pylist():
        image, mask = decode(row["image"], row["mask"], KNOWN)
        wanted = by_mask.pop(mask.tobytes())
        assert np.abs(image.astype(int) - wanted).mean() < 8  # JPEG
    assert len(list_pairs(bucket, layout, "val")) == 2


@pytest.mark.parametrize("layout", PUT)
def test_a_split_that_is_not_there_is_refused(tmp_path, layout):
    PUT[layout](str(tmp_path), "train", 1)
    with pytest.raises(StorageError):
        list_pairs(str(tmp_path), layout, "test")


@pytest.mark.parametrize("layout", [layout for layout in PUT if layout != "voc"])
def test_two_splits_are_taken_as_one(tmp_path, layout):
    PUT[layout](str(tmp_path), "train", 3)
    PUT[layout](str(tmp_path), "val", 2)
    both = list_pairs(str(tmp_path), layout, "train+val")
    apart = list_pairs(str(tmp_path), layout, "train") + list_pairs(str(tmp_path), layout, "val")
    assert both == sorted(apart, key=lambda pair: pair.key)
    assert (len(both), {pair.problem for pair in both}) == (5, {None})


def test_a_picture_of_two_splits_is_told(tmp_path):
    PUT["voc"](str(tmp_path), "val", 1)
    PUT["voc"](str(tmp_path), "trainval", 2)
    assert [pair.problem for pair in list_pairs(str(tmp_path), "voc", "trainval+val")] == [
        "2 samples have this name",
        "2 samples have this name",
        None,
    ]


@pytest.mark.parametrize("split", ["train+test", "test+train", "train+", "+"])
def test_one_of_two_splits_that_is_not_there_is_refused(tmp_path, split):
    PUT["parquet"](str(tmp_path), "train", 1)
    with pytest.raises(StorageError, match=r"no pictures of the split '(test|)'"):
        list_pairs(str(tmp_path), "parquet", split)


def test_a_name_in_a_list_of_voc_may_have_blanks(tmp_path):
    PUT["voc"](str(tmp_path), "val", 1)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_bytes(b"IMG 001 \r\n\n2007_000000")
    assert [pair.key for pair in list_pairs(str(tmp_path), "voc", "val")] == ["2007_000000", "IMG 001"]


def test_trainaug_has_its_masks_in_a_folder_of_its_own(tmp_path):
    PUT["voc"](str(tmp_path), "trainaug", 2)
    [first, _] = list_pairs(str(tmp_path), "voc", "trainaug")
    assert first.mask.uri == f"{tmp_path}/SegmentationClassAug/2007_000000.png"


@pytest.mark.parametrize(
    "key", ["train.tar", "train-0.tar", "train_0.tar", "train.0.tar", "train/0.tar", "a/train/b/0.tar"]
)
def test_names_that_belong_to_a_split(key):
    assert in_split(key, "train")


@pytest.mark.parametrize(
    "key", ["trainval-0.tar", "training/val-0.tar", "training/0.tar", "val-0.tar", "a/retrain-0.tar"]
)
def test_names_that_only_begin_as_a_split(key):
    assert not in_split(key, "train")


@pytest.mark.parametrize("layout", ["webdataset", "parquet"])
def test_a_split_does_not_take_another_whose_name_begins_alike(tmp_path, layout):
    PUT[layout](str(tmp_path), "train", 2)
    PUT[layout](str(tmp_path), "trainval", 3)
    PUT[layout](f"{tmp_path}/training", "val", 4)
    assert len(list_pairs(str(tmp_path), layout, "train")) == 2
    assert len(list_pairs(str(tmp_path), layout, "trainval")) == 3


def test_a_picture_of_an_unknown_kind_is_told_and_what_stands_beside_pictures_is_not(tmp_path):
    PUT["camvid"](str(tmp_path), "train", 2)
    (tmp_path / "train" / "001.png").rename(tmp_path / "train" / "001.jp2")
    for name in ("000.json", "Thumbs.db"):
        (tmp_path / "train" / name).write_bytes(b"{}")
        (tmp_path / "trainannot" / name).write_bytes(b"{}")
    storage.put_whole(
        f"{tmp_path}/tars/train-0.tar", tar_bytes([("a.ppm", b"P6"), ("a.mask.png", b""), ("b.json", b"{}")])
    )
    assert problems(tmp_path, "camvid") == {"train/000.png": None, "train/001.jp2": None}
    (tmp_path / "train" / "001.jp2").write_bytes(b"\0\0\0\x0cjP")
    [told] = filter(None, problems(tmp_path, "camvid").values())
    assert "not a JPEG, PNG" in told
    told = "there is no picture for this mask; the sample holds .ppm, .mask.png"
    assert problems(tmp_path / "tars", "webdataset") == {"train-0.tar/a": told}


def test_a_mask_without_its_picture_is_told(tmp_path):
    PUT["camvid"](str(tmp_path), "train", 2)
    (tmp_path / "train" / "001.png").unlink()
    told = "there is no picture for this mask"
    assert problems(tmp_path, "camvid") == {"train/000.png": None, "trainannot/001.png": told}


def test_two_samples_of_one_name_are_told(tmp_path):
    PUT["camvid"](str(tmp_path), "train", 2)
    storage.put_whole(f"{tmp_path}/train/001.jpg", jpeg(pair(1)[0]))
    told = "2 pictures are called '001', for one mask"
    assert problems(tmp_path, "camvid") == {"train/000.png": None, "train/001.png": told, "train/001.jpg": told}
    image, mask = (png(plane) for plane in pair(0))
    members = [("a.png", image), ("b.png", image), ("b.mask.png", mask), ("a.mask.png", mask), ("a.png", image)]
    storage.put_whole(f"{tmp_path}/tars/train-0.tar", tar_bytes(members))
    [first, second, other] = fetch(list_pairs(f"{tmp_path}/tars", "webdataset", "train"), KNOWN).to_pylist()
    assert first["key"] == second["key"] == "train-0.tar/a"
    assert first["problem"] == second["problem"] == "2 samples have this name"
    assert (other["key"], other["problem"]) == ("train-0.tar/b", None)


def problems(root, layout):
    """What is wrong with each pair of the training split, by its key."""
    table = fetch(list_pairs(str(root), layout, "train"), KNOWN)
    return dict(zip(table["key"].to_pylist(), table["problem"].to_pylist(), strict=True))


def test_damage_in_a_parquet_file_costs_the_pairs_it_holds(tmp_path):
    pairs = [(png(image), png(mask)) for image, mask in map(pair, range(4))]
    table = pa.table({"image": [image for image, _ in pairs], "mask": [mask for _, mask in pairs]})
    whole = parquet_bytes(table, 2, compression="none", use_dictionary=False, write_page_checksum=True)
    damaged = whole.replace(pairs[2][0], pairs[2][0][:-60] + bytes(60))
    assert damaged != whole
    (tmp_path / "train.parquet").write_bytes(damaged)
    found = problems(tmp_path, "parquet")
    assert [found[f"train.parquet#{row}"] for row in (0, 1)] == [None, None]
    for row in (2, 3):
        assert "train.parquet is not a readable Parquet file: could not verify page" in found[f"train.parquet#{row}"]


@pytest.mark.parametrize("layout", ["camvid", "webdataset"])
def test_a_name_that_is_not_utf_8_and_a_broken_link_cost_no_other_pair(tmp_path, layout):
    odd = os.fsdecode(b"caf\xe9")
    if layout == "camvid":
        PUT["camvid"](str(tmp_path), "train", 2)
        odd, folder, wanted = f"{odd}.png", tmp_path / "train", {"train/000.png": None, "train/001.png": None}
    else:
        members = [(f"0{end}", png(plane)) for end, plane in zip(ENDS, pair(0), strict=True)]
        storage.put_whole(f"{tmp_path}/train/0.tar", tar_bytes(members))
        odd, folder, wanted = f"{odd}.tar", tmp_path / "train", {"train/0.tar/0": None}
    (folder / odd).write_bytes(b"x")
    (folder / f"gone.{odd[-3:]}").symlink_to("nowhere")
    name = rf"caf\udce9.{odd[-3:]}"
    key = name if layout == "camvid" else f"train/{name}"
    told = []
    found = fetch(list_pairs(str(tmp_path), layout, "train", tell=told.append), KNOWN).to_pylist()
    problem = f"the name {key} is not UTF-8; rename the file"
    assert {row["key"]: row["problem"] for row in found} == wanted | {f"train/{name}": problem}
    assert f"ignored: {folder}/gone.{odd[-3:]}: a link that leads nowhere, or to itself" in told


def test_tars_one_after_the_other_are_all_read(tmp_path):
    members = [[(f"{n}{end}", png(plane)) for end, plane in zip(ENDS, pair(n), strict=True)] for n in range(3)]
    (tmp_path / "train-0.tar").write_bytes(b"".join(map(tar_bytes, members)))
    assert problems(tmp_path, "webdataset") == {f"train-0.tar/{n}": None for n in range(3)}


@pytest.mark.parametrize("damage", ["header", "truncated", "zeros", "block of zeros"])
def test_a_damaged_tar_is_an_error_that_names_it(tmp_path, damage):
    """Not a listing that ends early and says nothing."""
    members = [(f"{n}{end}", png(plane)) for n in range(3) for end, plane in zip(ENDS, pair(n), strict=True)]
    whole = bytearray(tar_bytes(members))
    middle = whole.index(b"1.mask.png")
    if damage == "truncated":
        del whole[middle + 700 :]
    else:
        size = 512 if damage == "block of zeros" else 100
        whole[middle : middle + size] = b"\xff" * size if damage == "header" else bytes(size)
    (tmp_path / "train-0.tar").write_bytes(whole)
    with pytest.raises(ShardError, match=r"train-0\.tar is not a readable tar: "):
        list_pairs(str(tmp_path), "webdataset", "train")


@pytest.mark.parametrize("layout", ["webdataset", "parquet"])
def test_a_shard_that_changes_or_goes_after_the_listing_is_said(tmp_path, layout):
    PUT[layout](str(tmp_path), "train", 2)
    pairs = list_pairs(str(tmp_path), layout, "train")
    for shard in tmp_path.rglob("train-*"):
        shard.write_bytes(shard.read_bytes() + b"more")
    for _ in ("changed", "gone"):
        for row in fetch(pairs, KNOWN).to_pylist():
            assert "is gone or has changed since it was listed" in row["problem"]
        for shard in tmp_path.rglob("train-*"):
            shard.unlink()


def test_a_link_among_labelled_pictures_is_said(tmp_path):
    mask = png(pair(0)[1])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link, target = tarfile.TarInfo("a.png"), tarfile.TarInfo("a.mask.png")
        link.type, link.linkname, target.size = tarfile.SYMTYPE, "elsewhere.png", len(mask)
        archive.addfile(link)
        archive.addfile(target, io.BytesIO(mask))
    (tmp_path / "train-0.tar").write_bytes(buffer.getvalue())
    assert "a.png is a link" in problems(tmp_path, "webdataset")["train-0.tar/a"]


def test_columns_may_be_chosen_and_the_choice_is_said(tmp_path):
    image, mask = (png(plane) for plane in pair(0))
    table = pa.table({"left": [image], "right": [image], "mask": [b"no"], "truth": [mask], "id": ["a"]})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(ConfigError, match="2 columns that fit equally, left, right; choose one with --image-column"):
        list_pairs(str(tmp_path), "parquet", "train", ColumnNames(mask="truth"))
    lines = []
    names = ColumnNames(image="right", mask="truth")
    [found] = list_pairs(str(tmp_path), "parquet", "train", names, lines.append)
    assert lines == [f"{tmp_path}/train.parquet: images from column `right`, keys from `id`, masks from column `truth`"]
    assert found.key == "train.parquet/a"
    assert fetch([found], KNOWN)["problem"].to_pylist() == [None]
    with pytest.raises(ConfigError, match="choose among the columns of a table, and the input is images"):
        list_pairs(str(tmp_path), "camvid", "train", names)


@pytest.mark.parametrize("layout", ["camvid", "voc", "webdataset", "parquet"])
def test_pictures_have_the_keys_that_the_job_gives_them(tmp_path, layout):
    PUT[layout](f"{tmp_path}/in", "train", 3)
    pairs = list_pairs(f"{tmp_path}/in", layout, "train")
    source = open_source(os.path.dirname(pairs[0].image.uri), "auto")
    keys = {row["key"] for row in fetched_rows(source, listed(source, tmp_path / "manifest"))}
    below = os.path.dirname(pairs[0].image.path) + "/"
    assert {p.image.key.removeprefix(below) for p in pairs} <= keys


def test_a_mask_that_is_not_there_is_no_pair_less(tmp_path):
    PUT["camvid"](str(tmp_path), "train", 3)
    (tmp_path / "trainannot" / "001.png").unlink()
    table = fetch(list_pairs(str(tmp_path), "camvid", "train"), KNOWN)
    assert table["problem"].to_pylist() == [None, "there is no mask for this picture", None]
    assert table["key"][1].as_py() == "train/001.png"


@pytest.mark.parametrize("mask", ["a.png", "a.seg.png", "a.label.png", "a.mask.png"])
def test_names_of_masks_in_a_tar(tmp_path, mask):
    picture = "a.jpg" if mask == "a.png" else "a.png"
    members = [(f"street/{name}", png(plane)) for name, plane in zip((picture, mask), pair(0), strict=True)]
    storage.put_whole(f"{tmp_path}/train/0.tar", tar_bytes(members))
    [found] = list_pairs(str(tmp_path), "webdataset", "train")
    assert found.key == "train/0.tar/street/a"
    assert fetch([found], KNOWN)["problem"].to_pylist() == [None]


@pytest.mark.parametrize("end", [".png", ".mask.png"])
def test_names_in_a_tar_may_have_dots(tmp_path, end):
    """Up to the first one all pictures of scene_1 would be one sample."""
    names = ("scene_1.5_a", "scene_1.6", "b")
    members = [
        (f"{name}{suffix}", data)
        for n, name in enumerate(names)
        for suffix, data in ((".jpg", jpeg(pair(n)[0])), (end, png(pair(n)[1])), (".json", b"{}"))
    ]
    members.append(("scene_1.7.jpg", jpeg(pair(3)[0])))
    storage.put_whole(f"{tmp_path}/train.tar", tar_bytes(members))
    told = []
    found = list_pairs(str(tmp_path), "webdataset", "train", tell=told.append)
    keys = {pair.key: pair.image.key for pair in found}
    assert keys == {key: key for key in (f"train.tar/{name}" for name in (*names, "scene_1.7"))}
    wanted = {f"train.tar/{name}": None for name in names} | {
        "train.tar/scene_1.7": "there is no mask for this picture"
    }
    assert problems(tmp_path, "webdataset") == wanted
    assert told == []


def test_images_of_a_sample_that_are_in_no_pair_are_named(tmp_path):
    names = ("a.jpg", "a.png", "a.thumb.jpg", "a.2.jpg", "a.2.png", "b.jpg", "b.jpeg", "b.mask.png", "b.json")
    storage.put_whole(f"{tmp_path}/train.tar", tar_bytes([(name, b"x") for name in names]))
    told = []
    found = list_pairs(str(tmp_path), "webdataset", "train", tell=told.append)
    assert [pair.key for pair in found] == ["train.tar/a", "train.tar/b"]
    *named, counts = told
    unpaired = ("a.thumb.jpg", "a.2.jpg", "a.2.png", "b.jpeg")
    assert [line.partition(": its sample")[0] for line in named] == [
        f"ignored: {tmp_path}/train.tar/{name}" for name in unpaired
    ]
    assert counts == "ignored: 4 unpaired images"


def test_names_in_a_tar_that_are_not_utf_8_are_escaped(tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    members = [(f"{odd}{end}", png(plane)) for end, plane in zip(ENDS, pair(0), strict=True)]
    members.append((f"{odd}2.{odd}.mask.png", b"x"))
    storage.put_whole(f"{tmp_path}/train.tar", tar_bytes(members, format=tarfile.GNU_FORMAT))
    told = "there is no picture for this mask; the sample holds .mask.png"
    key = r"train.tar/caf\udce9"
    assert problems(tmp_path, "webdataset") == {key: None, rf"{key}2.caf\udce9": told}


def test_parquet_without_masks_names_its_columns(tmp_path):
    pq.write_table(pa.table({"image": [b""], "caption": ["a street"]}), tmp_path / "train.parquet")
    with pytest.raises(
        ConfigError,
        match=r"train.parquet has no column mask or .* of encoded masks; its columns are image: binary, caption",
    ):
        list_pairs(str(tmp_path), "parquet", "train")


def test_tables_that_hold_no_pictures_are_said_and_cost_nothing(tmp_path):
    """A list of words, and what a run has written; where they are all there is, the error says so."""
    pq.write_table(pa.table({"words": ["x"]}), tmp_path / "train-0.parquet")
    own = pa.table({"image": [b"x"], "mask": [b"y"]}).replace_schema_metadata(info(run_id="r7").to_metadata())
    pq.write_table(own, tmp_path / "train-1.parquet")
    with pytest.raises(StorageError, match=r"no pictures .*; ignored: .*train-0\.parquet has no column of "):
        list_pairs(str(tmp_path), "parquet", "train")
    put, told = PUT["parquet"], []
    put(str(tmp_path), "train", 2)
    found = list_pairs(str(tmp_path), "parquet", "train", tell=told.append)
    assert [p.key for p in found] == [f"data/train-00000-of-00001.parquet/{n}" for n in range(2)]
    assert "train-00000-of-00001.parquet: images from column `image`, keys from `id`" in told[0]
    assert any("train-1.parquet has the note of the run r7: an output is no input" in line for line in told)
    assert sorted(told[-1].removeprefix("ignored: ").split(", ")) == ["1 other table", "1 output file"]


def test_pictures_of_cameras_are_labelled_pictures_too(tmp_path):
    PUT["camvid"](str(tmp_path), "train", 1)
    for folder in ("train", "trainannot"):
        (tmp_path / folder / "000.png").rename(tmp_path / folder / "_DSC1.png")
    assert problems(tmp_path, "camvid") == {"train/_DSC1.png": None}


def test_classes_are_the_data_sets_own_or_given():
    assert labels("voc", None) == Labels(classes=VOC_CLASSES, void=255)
    camvid = labels("camvid", None)
    assert (len(camvid.classes), camvid.classes[2], camvid.void) == (11, "Pole", 11)
    assert labels("parquet", CLASSES) == KNOWN
    fewer, renamed, more = (labels("camvid", tuple(map(str, range(count)))) for count in (3, 11, 12))
    assert (fewer.void, fewer.palette) == (11, None)
    assert (renamed.void, renamed.palette, renamed.classes[10]) == (11, camvid.palette, "10")
    assert (more.void, more.palette) == (255, None)  # here 11 is a class
    with pytest.raises(ConfigError, match="give --classes"):
        labels("webdataset", None)


def test_jpeg_pictures_and_plain_bytes_in_parquet(tmp_path):
    image, mask = pair(3)
    pq.write_table(pa.table({"image": [jpeg(image)], "mask": [png(mask)]}), tmp_path / "train.parquet")
    [found] = list_pairs(str(tmp_path), "parquet", "train")
    assert found.key == "train.parquet#0"
    assert fetch([found], KNOWN)["problem"].to_pylist() == [None]
