"""Keys of the main job's masks find their labelled pictures, whatever folder the job was given."""

import pytest

from pipeline.errors import ConfigError
from pipeline.evaluation.existing import Names


@pytest.mark.parametrize(
    ("labelled", "mask"),
    [
        ("val/a.png", "a.png"),
        ("val/a.png", "val/a.png"),
        ("val/a.png", "camvid/val/a.png"),
        ("val/a.png", "a.jpg"),
        ("2007_000033", "2007_000033.jpg"),
        ("2007_000033", "JPEGImages/2007_000033.jpg"),
        ("val-000.tar/street/a", "street/a"),
        ("data/val-0.parquet#17", "17"),
        ("v1.0", "v1.0"),
    ],
)
def test_a_key_is_the_others_end(labelled, mask):
    assert Names(["val/other.png", labelled]).find(mask) == 1


@pytest.mark.parametrize("mask", ["valannot/a.png", "b.png", "aa.png", "train/a.png", ""])
def test_what_is_only_alike_is_not_joined(mask):
    assert Names(["val/a.png", "val/ba.png"]).find(mask) is None


def test_a_key_that_fits_several_pictures_is_refused():
    names = Names(["val-000.tar/a", "val-001.tar/a"])
    assert names.find("val-001.tar/a") == 1
    with pytest.raises(ConfigError, match="'a' could be that of 2 labelled pictures"):
        names.find("a")
