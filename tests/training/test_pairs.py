"""What a pair may hold, and how each thing that is wrong with one is told."""

import numpy as np
import pytest
from training.labelled import CLASSES, jpeg, pair, palette_png, png

from pipeline.errors import StorageError
from pipeline.training.pairs import Labels, decode, problem

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
        (StorageError("cannot read x.png: gone"), png(MASK), "cannot read x.png: gone"),
    ],
)
def test_what_is_wrong_with_a_pair_is_said(image, mask, told):
    assert told in (problem(image, mask, LABELS) or "")


def test_nothing_is_wrong_with_a_good_pair():
    assert problem(jpeg(IMAGE), palette_png(MASK), LABELS) is None
