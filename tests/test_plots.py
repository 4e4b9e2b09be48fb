"""The plots: PNGs that show every series, and take what was not scored."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.reports.heat_map import heat_map
from pipeline.reports.plots import COLOURS, class_bars, trimap_curve


def drawn(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def pixels_of(image, colour):
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((image == rgb).all(axis=2).sum())


def test_bars_are_as_long_as_the_scores():
    names = ("sky", "road", "tree")
    low, high = (drawn(class_bars(names, {"network": np.array([v, v, np.nan])})) for v in (20.0, 80.0))
    assert pixels_of(high, COLOURS[1]) == pytest.approx(4 * pixels_of(low, COLOURS[1]), rel=0.1)
    both = drawn(class_bars(names, {"network": np.full(3, 50.0), "refined": np.full(3, 60.0)}))
    assert all(pixels_of(both, colour) > 1000 for colour in COLOURS)


def test_names_are_drawn_as_they_are():
    """Matplotlib would take what is between two dollars for a formula, and fail over what is none."""
    names = ("$$", "$x$", "a_b^c")
    assert drawn(class_bars(names, {"network": np.full(3, 50.0)})).size
    plain, formula = (drawn(class_bars((name,), {"network": np.array([50.0])})) for name in ("x", "$x$"))
    assert plain.shape == formula.shape
    assert (plain != formula).any()


@pytest.mark.parametrize("band", ["void", "borders"])
def test_a_line_for_each_curve(band):
    curves = {"network": np.linspace(30, 60, 40), "refined": np.linspace(40, 65, 40)}
    image = drawn(trimap_curve(curves, band))
    assert all(pixels_of(image, colour) > 200 for colour in COLOURS)


def test_the_best_cell_is_outlined_and_untried_panels_stay_blank():
    tried = {(3.0, 30.0, 3.0): 60.0, (4.0, 30.0, 3.0): 65.0, (4.0, 40.0, 5.0): 70.0}
    image = drawn(heat_map(tried, ([3.0, 4.0], [30.0, 40.0], [3.0, 4.0, 5.0])))
    red = np.argwhere((image == (0xD1, 0x24, 0x2F)).all(axis=2))
    assert len(red) > 50
    assert (red.mean(axis=0) / image.shape[:2]).round().tolist() == [1, 0]  # the third panel, lower left


def test_of_equal_cells_the_first_tried_is_outlined():
    image = drawn(heat_map({(4.0, 40.0, 3.0): 70.0, (3.0, 30.0, 3.0): 70.0}, ([3.0, 4.0], [30.0, 40.0], [3.0])))
    red = np.argwhere((image == (0xD1, 0x24, 0x2F)).all(axis=2))
    assert (red.mean(axis=0) / image.shape[:2] > 0.5).all()  # the lower right


def test_one_point_is_a_heat_map():
    assert drawn(heat_map({(4.0, 67.0, 3.0): 50.0}, ([4.0], [67.0], [3.0]))).size
