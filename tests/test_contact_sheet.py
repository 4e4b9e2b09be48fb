"""The contact sheet: its size, the colours of its masks, and what it refuses."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.reports.contact_sheet import GAP, MARGIN, Row, contact_sheet

PALETTE = np.array([[250, 10, 20], [30, 240, 50], [60, 70, 230]], np.uint8)
NAMES = ("sky", "grass", "sand")


def row(key="a", truth=True, shape=(60, 80)):
    labels = np.arange(shape[0] * shape[1]).reshape(shape) * 3 // (shape[0] * shape[1])
    labels = labels.astype(np.uint8)
    image = np.full((*shape, 3), (9, 8, 7), np.uint8)
    return Row(key=key, image=image, truth=labels if truth else None, network=labels, refined=labels[::-1], note="0.5")


def drawn(rows, width=80):
    image = Image.open(io.BytesIO(contact_sheet(rows, PALETTE, NAMES, width)))
    assert image.format == "PNG"
    assert image.mode == "RGB"
    return np.asarray(image)


def share(sheet, colour):
    return (sheet == colour).all(axis=2).sum()


def test_four_columns_where_there_is_truth_and_three_where_there_is_none():
    assert drawn([row()]).shape[1] == 4 * 80 + 3 * GAP + 2 * MARGIN
    assert drawn([row(truth=False)]).shape[1] == 3 * 80 + 2 * GAP + 2 * MARGIN
    assert drawn([row(), row(truth=False)]).shape[1] == 4 * 80 + 3 * GAP + 2 * MARGIN


def test_rows_stand_below_one_another():
    one, three = drawn([row()]), drawn([row("a"), row("b"), row("c")])
    assert three.shape[0] - one.shape[0] >= 2 * 60
    assert (three.shape[0] - one.shape[0]) % 2 == 0


def test_masks_have_the_colours_of_their_classes():
    sheet = drawn([row()])
    assert share(sheet, (9, 8, 7)) == 60 * 80
    for colour in PALETTE:
        assert 3 * 60 * 80 / 3 <= share(sheet, colour) < 3 * 60 * 80 / 3 + 300


def test_the_refined_mask_is_the_last_column():
    sheet = drawn([row()])
    right = sheet[:, -MARGIN - 80 : -MARGIN]
    first = np.flatnonzero((right == PALETTE[2]).all(axis=2).any(axis=1))[0]
    last = np.flatnonzero((right[: first + 60] == PALETTE[0]).all(axis=2).any(axis=1))[-1]
    assert last - first == 59


def test_pixels_without_a_class_are_grey():
    void = np.full((60, 80), 255, np.uint8)
    blank = Row(key="v", image=np.zeros((60, 80, 3), np.uint8), truth=void, network=void, refined=void)
    assert share(drawn([blank]), (200, 200, 200)) >= 3 * 60 * 80


def test_pictures_of_all_sizes_are_scaled_to_the_column():
    assert drawn([row(shape=(30, 40)), row(shape=(240, 320))]).shape == drawn([row(), row()]).shape


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ConfigError, match="rows"):
        contact_sheet([], PALETTE, NAMES)
    with pytest.raises(ConfigError, match="colours"):
        contact_sheet([row()], PALETTE, NAMES[:2])
    wrong = Row(
        key="odd", image=np.zeros((4, 4, 3), np.uint8), truth=None, network=row().network, refined=row().refined
    )
    with pytest.raises(ConfigError, match="odd: the network mask"):
        contact_sheet([wrong], PALETTE, NAMES)
