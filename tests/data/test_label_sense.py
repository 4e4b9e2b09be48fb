"""Labels that are in range and still make no sense: each is refused or said, and none trains or scores in silence."""

import pytest

from pipeline.data.labelled import labels
from pipeline.data.labelled.sense import check_classes, check_drawn_on
from pipeline.errors import ConfigError
from pipeline.labels import COCO_CLASSES, COCO_STUFF_CLASSES, VOC_CLASSES, Labels, check_class_names

TWO = Labels(classes=("background", "road"))
CAMVID = labels("camvid", None)


def test_a_split_of_void_alone_is_refused():
    with pytest.raises(ConfigError, match="the masks of train hold no pixel that is counted: all are 255"):
        check_classes([0, 0], TWO, "train")
    with pytest.raises(ConfigError, match="all are 11 or 255"):
        check_classes([0] * 11, CAMVID, "train")


def test_one_class_that_is_all_is_warned_of():
    """As with masks of 0 and 255, meant as two classes."""
    [line] = check_classes([1000, 0], TWO, "the split 'train'")
    assert line.startswith("warning: every counted pixel of the split 'train' is of one class, 'background'")
    assert "the value 255 is never counted: where a class is stored as that, store its class id" in line


def test_classes_without_a_pixel_are_named():
    assert check_classes([5, 1], TWO, "val") == []
    [line] = check_classes([0, 3, 0, *range(1, 9)], CAMVID, "val")
    assert line == "no pixel of val is of Sky, Pole"
    [line] = check_classes([1, 1] + [0] * 19, labels("voc", None), "val")
    assert line.endswith("of bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, ...")


def test_255_is_no_class_of_labelled_data():
    assert len(Labels(classes=tuple(map(str, range(255)))).classes) == 255
    with pytest.raises(ConfigError, match="256 classes; labelled data holds at most 255, since the value 255 marks"):
        labels("parquet", tuple(map(str, range(256))))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("road", "sky", "road"), "2 classes are called 'road'"),
        (("road", ""), "the name of class 1 is ''"),
        (("road", " \t"), "the name of class 1 is"),
        (("road", "two\nlines"), r"the name of class 1 is 'two\\nlines'; give text of one line"),
        (("road", "\ud800"), "the name of class 1 is"),
        ((0, 1), "the name of class 0 is 0"),
        (("road", None), "the name of class 1 is None"),
        ({"0": "road", "1": "sky"}, "give a list of names, in the order of their class ids"),
        ("road", "classes are 'road'; give a list"),
    ],
)
def test_names_that_tell_no_classes_apart_are_refused(names, message):
    with pytest.raises(ConfigError, match=message):
        check_class_names(names)


def test_names_of_any_language_and_those_of_the_data_sets_are_taken():
    check_class_names(("$$", "a|b", "天　空", "Straße", "traffic light", "<b>", "\\"))
    for names in (VOC_CLASSES, COCO_CLASSES, COCO_STUFF_CLASSES):
        check_class_names(names)


@pytest.mark.parametrize(
    ("ways", "told"),
    [
        ([], []),
        (["upright", "stored"], []),  # each mask's own sides tell
        (["upright", "either"], []),  # one convention, which one mask shows
        (["either", "either"], ["warning: the masks of 2 pictures of val that EXIF turns (0, 1) are taken as"]),
    ],
)
def test_which_way_up_masks_are_taken_is_said_where_nothing_tells(ways, told):
    lines = check_drawn_on([(str(n), way) for n, way in enumerate(ways)], "val")
    assert [line[: len(start)] for line, start in zip(lines, told, strict=True)] == told


def test_a_mask_that_may_lie_the_other_way_up_beside_one_that_does_is_refused():
    with pytest.raises(ConfigError, match=r"the masks of 1 pictures of val that EXIF turns \(b\) may be drawn on"):
        check_drawn_on([("a", "stored"), ("b", "either"), ("c", "upright")], "val")
