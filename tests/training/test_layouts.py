"""Labelled data in each layout: the same pairs come out, and splits are kept apart."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled import CLASSES, PUT, jpeg, pair, png

from pipeline import storage
from pipeline.errors import ConfigError, StorageError
from pipeline.models.classes import VOC_CLASSES
from pipeline.training.layouts import labels, list_pairs
from pipeline.training.pairs import Labels, decode, fetch

KNOWN = Labels(classes=CLASSES)


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


def test_trainaug_has_its_masks_in_a_folder_of_its_own(tmp_path):
    PUT["voc"](str(tmp_path), "trainaug", 2)
    [first, _] = list_pairs(str(tmp_path), "voc", "trainaug")
    assert first.mask.uri == f"{tmp_path}/SegmentationClassAug/2007_000000.png"


def test_a_mask_that_is_not_there_is_no_pair_less(tmp_path):
    PUT["camvid"](str(tmp_path), "train", 3)
    (tmp_path / "trainannot" / "001.png").unlink()
    table = fetch(list_pairs(str(tmp_path), "camvid", "train"), KNOWN)
    assert table["problem"].to_pylist() == [None, "there is no mask for this picture", None]
    assert table["key"][1].as_py() == "train/001.png"


@pytest.mark.parametrize("mask", ["a.png", "a.seg.png", "a.label.png", "a.mask.png"])
def test_names_of_masks_in_a_tar(tmp_path, mask):
    picture = "a.jpg" if mask == "a.png" else "a.png"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in ((mask, png(pair(0)[1])), (picture, png(pair(0)[0]))):
            member = tarfile.TarInfo(f"street/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    storage.put_whole(f"{tmp_path}/train/0.tar", buffer.getvalue())
    [found] = list_pairs(str(tmp_path), "webdataset", "train")
    assert found.key == "train/0.tar/street/a"
    assert fetch([found], KNOWN)["problem"].to_pylist() == [None]


def test_parquet_without_masks_names_its_columns(tmp_path):
    pq.write_table(pa.table({"image": [b""], "caption": ["a street"]}), tmp_path / "train.parquet")
    with pytest.raises(ConfigError, match=r"train.parquet has no column mask or .*; its columns are image, caption"):
        list_pairs(str(tmp_path), "parquet", "train")


def test_classes_are_the_data_sets_own_or_given():
    assert labels("voc", None) == Labels(classes=VOC_CLASSES, void=255)
    camvid = labels("camvid", None)
    assert (len(camvid.classes), camvid.classes[2], camvid.void) == (11, "Pole", 11)
    assert labels("parquet", CLASSES) == KNOWN
    with pytest.raises(ConfigError, match="give --classes"):
        labels("webdataset", None)


def test_jpeg_pictures_and_plain_bytes_in_parquet(tmp_path):
    image, mask = pair(3)
    pq.write_table(pa.table({"image": [jpeg(image)], "mask": [png(mask)]}), tmp_path / "train.parquet")
    [found] = list_pairs(str(tmp_path), "parquet", "train")
    assert found.key == "train.parquet#0"
    assert fetch([found], KNOWN)["problem"].to_pylist() == [None]
