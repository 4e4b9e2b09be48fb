"""What a pair may hold, and how each thing that is wrong with one is told."""

import numpy as np
import pytest

from pipeline.data.formats.format import Location, Pair
from pipeline.data.formats.images import Images
from pipeline.data.labelled.pairs import decode, fetch
from pipeline.labels import Labels
from tests.helpers.labelled import CLASSES, jpeg, pair, palette_png, png

LABELS = Labels(classes=CLASSES, void=9)
IMAGE, MASK = pair(0)


def test_void_and_255_are_not_counted():
    mask = MASK.copy()
    mask[0, :3], mask[1, :3] = 9, 255
    _, labels = decode(png(IMAGE), png(mask), LABELS)
    assert (labels[:2, :3] == 255).all()
    np.testing.assert_array_equal(labels[2:], MASK[2:])


def test_palette_and_grey_masks_are_the_same():
    grey, palette = (decode(png(IMAGE), encoded, LABELS)[1] for encoded in (png(MASK), palette_png(MASK)))
    np.testing.assert_array_equal(grey, MASK)
    np.testing.assert_array_equal(palette, MASK)


@pytest.mark.parametrize(
    ("image", "mask", "told"),
    [
        (png(IMAGE), png(MASK[:, :-1]), "the picture is 64x48 pixels and its mask 63x48"),
        (png(IMAGE), png(np.full_like(MASK, 3)), "the mask holds the class id 3; there are 3 classes, 0 to 2"),
        (png(IMAGE), png(IMAGE), "palette or grey; this one has the mode RGB"),
        (png(IMAGE), jpeg(MASK), "the mask is not a readable PNG"),
        (png(IMAGE), png(MASK)[:60], "the mask is not a readable PNG"),
        (png(IMAGE)[:-40], png(MASK), "the image cannot be decoded"),
        (b"", png(MASK), "the image is empty"),
    ],
)
def test_what_is_wrong_with_a_pair_is_said(tmp_path, image, mask, told):
    [row] = fetched(tmp_path, image, mask)
    assert told in row["problem"]
    assert row["pixels"] is None


def at(folder, name):
    return Location(format=Images(), root=str(folder), path=name, key=name)


def fetched(folder, image, mask):
    (folder / "image").write_bytes(image)
    (folder / "mask").write_bytes(mask)
    return fetch([Pair("a", at(folder, "image"), at(folder, "mask"))], LABELS).to_pylist()


def test_a_good_pair_is_counted(tmp_path):
    mask = MASK.copy()
    mask[:2] = 9
    image = jpeg(IMAGE)
    [row] = fetched(tmp_path, image, palette_png(mask))
    assert row["problem"] is None
    assert (row["image"], row["pixels"]) == (image, [int((mask == label).sum()) for label in range(3)])


def test_what_is_gone_is_said(tmp_path):
    [row] = fetch([Pair("a", at(tmp_path, "gone.png"), None)], LABELS).to_pylist()
    assert "gone.png" in row["problem"]
