"""Masks of the main job find their labelled pictures, whatever folder the job was given, and in a copy of the data."""

import os

import pytest

from pipeline.data.formats.format import Location, Pair
from pipeline.data.formats.images import Images
from pipeline.data.formats.webdataset import WebDataset
from pipeline.data.labelled import list_pairs
from pipeline.data.source import open_source
from pipeline.errors import ConfigError
from pipeline.evaluation.picture_names import PictureNames
from tests.helpers.labelled import PUT
from tests.helpers.shards import fetched_rows, listed


def image(path, root="/data"):
    return Pair(path, Location(format=Images(), root=root, path=path, key=path), None)


def member(shard, key, root="/data"):
    key = f"{shard}/{key}"
    return Pair(key, Location(format=WebDataset(), root=root, path=shard, key=key, offset=1), None)


def row(shard, key, number, root="/data"):
    return Pair(f"{shard}#{number}", Location(format=WebDataset(), root=root, path=shard, key=key, row=number), None)


OTHER = image("val/other.png")


@pytest.mark.parametrize(
    ("pair", "job_input", "key", "source"),
    [
        (image("val/a.png"), "/data/val", "a.png", "/data/val/a.png"),
        (image("val/a.png"), "/data", "val/a.png", "/data/val/a.png"),
        (image("JPEGImages/2007.jpg"), "/data/JPEGImages", "2007.jpg", "/data/JPEGImages/2007.jpg"),
        (member("val-000.tar", "street/a"), "/data", "val-000.tar/street/a", "/data/val-000.tar"),
        (member("val-000.tar", "v1.0"), "/data", "val-000.tar/v1.0", "/data/val-000.tar"),
        (
            row("data/val-0.parquet", "data/val-0.parquet/17", 3),
            *("/data/data", "val-0.parquet/17", "/data/data/val-0.parquet"),
        ),
        (
            row("data/0.parquet", "data/0.parquet#3", 3),
            *("/data/data", "0.parquet#3", "/data/data/0.parquet"),
        ),
    ],
)
@pytest.mark.parametrize("moved", [False, True], ids=["in place", "copied"])
def test_a_mask_is_of_the_picture_in_its_file(pair, job_input, key, source, moved):
    """Copied means segmented below /elsewhere, with the same paths below the input."""
    if moved:
        job_input, source = f"/elsewhere{job_input}".rstrip("/"), f"/elsewhere{source}"
    assert PictureNames([OTHER, pair], "/data", job_input).find(key, source) == 1


def test_an_image_of_a_list_may_have_any_key():
    names = PictureNames([OTHER, image("val/a.png")], "/data", "")
    assert names.find("frame 17", "/data/val/a.png") == 1
    assert names.find("val/a.png", "/data/val/other.png") == 0


def test_the_input_may_begin_above_the_data():
    names = PictureNames([image("val/a.png", root="/set/data")], "/set/data", "/set")
    assert names.find("data/val/a.png", "/set/data/val/a.png") == 0


@pytest.mark.parametrize(
    ("key", "source"),
    [
        ("valannot/a.png", "/data/valannot/a.png"),
        ("train/a.png", "/data/train/a.png"),
        ("a.png", "/data/a.png"),
        ("val/a.jpg", "/data/val/a.jpg"),
        ("a", "/data/val/a.png"),
        ("", ""),
    ],
)
def test_what_is_only_alike_is_not_joined(key, source):
    assert PictureNames([image("val/a.png"), image("val/ba.png")], "/data", "/data").find(key, source) is None


def test_a_mask_of_another_split_is_not_taken_for_one_of_this():
    """Its key alone could be."""
    names = PictureNames([image("val/a.png")], "/data", "/data/train")
    assert names.find("a.png", "/data/train/a.png") is None


@pytest.mark.parametrize(("key", "index"), [("a.png", 0), ("val/a.png", 0), ("b.png", None), ("aa.png", None)])
def test_in_a_copy_a_key_is_the_end_of_a_picture_s_path(key, index):
    names = PictureNames([image("val/a.png"), image("val/ba.png")], "/data", "s3://bucket/in")
    assert names.find(key, f"s3://bucket/in/{key}") == index


def test_members_of_one_name_are_told_by_their_shards():
    pairs = [member("val-000.tar", "a"), member("val-001.tar", "a")]
    assert PictureNames(pairs, "/data", "/data").find("val-001.tar/a", "/data/val-001.tar") == 1
    copied = PictureNames(pairs, "/data", "s3://bucket/in")
    assert copied.find("val-001.tar/a", "s3://bucket/in/val-001.tar") == 1
    assert copied.find("val-002.tar/a", "s3://bucket/in/val-002.tar") is None


def test_of_two_pictures_of_one_name_in_a_shard_the_job_has_segmented_the_first():
    pairs = [row("val.parquet", "val.parquet/a", 7), row("val.parquet", "val.parquet/a", 2)]
    assert PictureNames(pairs, "/data", "/data").find("val.parquet/a", "/data/val.parquet") == 1


def test_a_key_that_fits_several_pictures_is_refused():
    names = PictureNames([image("cat/a.png"), image("dog/a.png")], "/data", "s3://bucket/in/dog")
    with pytest.raises(ConfigError, match=r"'a\.png' could be that of 2 labelled pictures, such as 'cat/a\.png' and"):
        names.find("a.png", "s3://bucket/in/dog/a.png")


def test_pictures_of_one_name_in_two_shards_find_their_own_masks(tmp_path):
    """By the rows of a real listing: keys of the job, of the data and of the masks are the same."""
    for folder in ("cat", "dog"):
        for layout in ("parquet", "webdataset"):
            PUT[layout](f"{tmp_path}/{folder}", "val", 2)
    source = open_source(str(tmp_path), "auto")
    rows = fetched_rows(source, listed(source, tmp_path / "manifest"))
    assert len({row["key"] for row in rows}) == len(rows)
    for layout in ("parquet", "webdataset"):
        pairs = list_pairs(str(tmp_path), layout, "val")
        names = PictureNames(pairs, str(tmp_path), source.root)
        found = {row["key"]: names.find(row["key"], row["source"]) for row in rows}
        assert {pairs[index].image.key: key for key, index in found.items() if index is not None} == {
            pair.image.key: pair.image.key for pair in pairs
        }
        assert len(pairs) == 4
        if layout == "parquet":
            assert {pair.key for pair in pairs} <= found.keys()


@pytest.mark.parametrize("layout", PUT)
@pytest.mark.parametrize("below", [False, True], ids=["whole data", "folder of the pictures"])
def test_every_picture_that_the_job_lists_is_found(tmp_path, layout, below):
    """By the rows of a real listing, before and after the data is copied."""
    data = f"{tmp_path}/data"
    PUT[layout](data, "val", 3)
    pairs = list_pairs(data, layout, "val")
    job_input = os.path.dirname(pairs[0].image.uri) if below else data
    source = open_source(job_input, "auto")
    rows = fetched_rows(source, listed(source, tmp_path / "manifest"))
    (tmp_path / "data").rename(tmp_path / "copy")
    for root in (data, f"{tmp_path}/copy"):
        names = PictureNames(pairs if root == data else list_pairs(root, layout, "val"), root, source.root)
        indices = [names.find(row["key"], row["source"]) for row in rows]
        assert sorted(index for index in indices if index is not None) == [0, 1, 2]
