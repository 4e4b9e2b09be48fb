"""A mask with its image, as a notebook shows it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pipeline
from pipeline import storage
from pipeline.errors import ConfigError, StorageError
from pipeline.masks import Overlay
from tests.helpers.outputs import CLASSES, PALETTE, blocks, note, put_rows, row
from tests.helpers.pictures import jpeg, photo


def drawn(overlay: Overlay) -> np.ndarray:
    with Image.open(io.BytesIO(overlay._repr_png_())) as png:
        return np.array(png.convert("RGB"))


def test_a_mask_alone_has_the_colours_of_its_classes_and_grey_where_it_has_none() -> None:
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    expected = [[PALETTE[0], PALETTE[1]], [PALETTE[2], (200, 200, 200)]]
    assert np.array_equal(drawn(Overlay(mask=mask, classes=CLASSES, palette=PALETTE)), expected)


def test_with_its_image_both_stand_side_by_side() -> None:
    image = np.full((4, 6, 3), 100, np.uint8)
    both = drawn(Overlay(mask=np.full((4, 6), 1, np.uint8), classes=CLASSES, palette=PALETTE, image=image))
    assert both.shape == (4, 12, 3)
    assert (both[:, :6] == 100).all()
    assert (both[:, 6:] == [int(0.6 * 128 + 40), 40, 40]).all()


def test_names_and_titles_are_text_and_shares_are_counted() -> None:
    mask = np.array([[0, 0, 0, 1]], np.uint8)
    page = Overlay(mask=mask, classes=("<b>", "tree"), palette=PALETTE[:2], title="<script>")._repr_html_()
    assert "&lt;b&gt; 75.0%" in page
    assert "tree 25.0%" in page
    assert "<script>" not in page
    assert "<b>" not in page


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not fit a mask"):
        Overlay(mask=np.zeros((2, 2), np.uint8), classes=CLASSES, palette=PALETTE, image=np.zeros((2, 3, 3), np.uint8))


def test_a_mask_of_an_output_is_looked_at_with_its_picture_or_alone_once_that_is_gone(tmp_path: Path) -> None:
    encoded = jpeg(photo(0))
    storage.put_whole(f"{tmp_path}/in/a.jpg", encoded)
    info = note(input=f"{tmp_path}/in")
    mask = blocks(1)
    put_rows(f"{tmp_path}/out", info, [row("a.jpg", mask, info, encoded)])
    seen = pipeline.look(f"{tmp_path}/out", "a.jpg")
    assert np.array_equal(seen.mask, mask)
    assert seen.image is not None
    assert seen.image.shape == (*mask.shape, 3)
    (tmp_path / "in/a.jpg").unlink()
    assert pipeline.look(f"{tmp_path}/out", "a.jpg").image is None
    with pytest.raises(StorageError, match=r"has no mask of 'b\.jpg'"):
        pipeline.look(f"{tmp_path}/out", "b.jpg")
