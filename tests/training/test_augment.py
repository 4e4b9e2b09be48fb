"""Augmentation: picture and mask move together, and the mask keeps whole labels."""

import numpy as np
import pytest

from pipeline.labels import IGNORE
from pipeline.training.augment import augment, cut_mix, pad, recolour, rescale
from pipeline.training.recipe import Recipe

FILL = (104, 117, 123)


def encoded(height, width, seed=0):
    """A picture of 8-pixel squares whose red channel is ten times the label in the mask."""
    labels = np.random.default_rng(seed).integers(0, 21, (-(-height // 8), -(-width // 8)))
    mask = np.kron(labels, np.ones((8, 8))).astype(np.uint8)[:height, :width]
    return np.stack([mask * 10, mask * 0 + 7, mask * 0], axis=2), mask


@pytest.mark.parametrize("seed", range(8))
def test_picture_and_mask_move_together(seed):
    image, mask = encoded(120, 160)
    recipe = Recipe(crop=97, scale_min=1.0, scale_max=1.0)
    cut, labels = augment(image, mask, recipe, FILL, np.random.default_rng(seed))
    assert cut.shape == (97, 97, 3)
    assert labels.shape == (97, 97)
    np.testing.assert_array_equal(cut[..., 0], labels * 10)


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.0, 1.5])
def test_scaled_picture_and_mask_agree_inside_the_squares(scale):
    image, mask = encoded(80, 112)
    bigger, labels = rescale(image, mask, scale)
    assert bigger.shape[:2] == labels.shape == (round(80 * scale), round(112 * scale))
    agree = np.abs(bigger[..., 0].astype(int) - labels.astype(int) * 10) <= 1
    interior = np.ones_like(labels, bool)
    for axis in (0, 1):
        step = np.diff(labels.astype(int), axis=axis) != 0
        for low, high in ((0, 1), (1, 0)):
            interior &= ~np.pad(step, [(low, high) if a == axis else (0, 0) for a in (0, 1)])
    assert agree[interior].mean() > 0.97


def test_masks_are_scaled_to_the_nearest_label():
    _, mask = encoded(64, 64)
    _, labels = rescale(np.zeros((64, 64, 3), np.uint8), mask, 1.37)
    assert set(np.unique(labels)) <= set(np.unique(mask))


def test_padding_is_the_mean_colour_at_the_bottom_and_right_and_is_not_counted():
    image, mask = encoded(40, 50)
    wide, labels = pad(image, mask, 65, FILL)
    assert wide.shape == (65, 65, 3)
    assert labels.shape == (65, 65)
    np.testing.assert_array_equal(wide[:40, :50], image)
    np.testing.assert_array_equal(labels[:40, :50], mask)
    assert (wide[40:] == FILL).all()
    assert (wide[:, 50:] == FILL).all()
    assert (labels[40:] == IGNORE).all()
    assert (labels[:, 50:] == IGNORE).all()


def test_a_large_picture_is_not_padded():
    image, mask = encoded(70, 90)
    wide, labels = pad(image, mask, 65, FILL)
    assert wide.shape == image.shape
    assert labels.shape == mask.shape


@pytest.mark.parametrize(("chance", "mirrored"), [(0.0, False), (1.0, True)])
def test_mirror_is_left_to_right(chance, mirrored):
    image, mask = encoded(65, 65)
    recipe = Recipe(crop=65, scale_min=1.0, scale_max=1.0, mirror=chance)
    cut, labels = augment(image, mask, recipe, FILL, np.random.default_rng(0))
    np.testing.assert_array_equal(labels, mask[:, ::-1] if mirrored else mask)
    np.testing.assert_array_equal(cut, image[:, ::-1] if mirrored else image)


def test_scales_fill_the_range():
    """A picture of one label and 100x100 pixels: the labelled part of the crop shows the scale."""
    image, mask = np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.uint8)
    recipe = Recipe(crop=161, scale_min=0.5, scale_max=1.5)
    rng = np.random.default_rng(0)
    sides = [np.sqrt((augment(image, mask, recipe, FILL, rng)[1] == 0).sum()) for _ in range(200)]
    assert min(sides) == pytest.approx(50, abs=3)
    assert max(sides) == pytest.approx(150, abs=3)
    assert np.mean(sides) == pytest.approx(100, abs=6)


def test_colours_change_as_their_names_say():
    """On a picture of two colours, against the formulas: mean grey for contrast, a pixel's own grey for saturation."""
    image = np.array([[[200, 100, 50], [40, 60, 80]]], np.uint8)
    grey = image @ np.array([0.299, 0.587, 0.114])  # (1, 2), ITU-R 601
    around = {"contrast": np.full((1, 2, 1), round(grey.mean())), "saturation": grey[..., None]}
    np.testing.assert_array_equal(recolour(image, (1, 1, 1)), image)
    np.testing.assert_allclose(recolour(image, (0.5, 1, 1)), image * 0.5, atol=1)
    np.testing.assert_allclose(recolour(image, (1, 0.5, 1)), (image + around["contrast"]) / 2, atol=1)
    np.testing.assert_allclose(recolour(image, (1, 1, 0.5)), (image + around["saturation"]) / 2, atol=1)


def test_padding_stays_the_mean_colour_where_colours_change():
    image, mask = encoded(40, 50)
    recipe = Recipe(crop=65, scale_min=1.0, scale_max=1.0, mirror=0.0, colour_jitter=0.9)
    cut, _ = augment(image, mask, recipe, FILL, np.random.default_rng(0))
    assert (cut[:40, :50] != image).any()
    assert (cut[40:] == FILL).all()
    assert (cut[:, 50:] == FILL).all()


@pytest.mark.parametrize(("jitter", "changed"), [(0.0, False), (0.4, True)])
def test_colours_change_where_the_recipe_says(jitter, changed):
    image, mask = encoded(65, 65)
    recipe = Recipe(crop=65, scale_min=1.0, scale_max=1.0, mirror=0.0, colour_jitter=jitter)
    cut, labels = augment(image, mask, recipe, FILL, np.random.default_rng(0))
    np.testing.assert_array_equal(labels, mask)
    assert (cut != image).any() == changed


def test_cut_mix_shows_one_window_of_the_other_example():
    ones, twos = (np.full((97, 97, 3), value, np.uint8) for value in (1, 2))
    for seed in range(50):
        image, mask = cut_mix((ones, ones[..., 0]), (twos, twos[..., 0]), np.random.default_rng(seed))
        np.testing.assert_array_equal(image, np.stack([mask] * 3, axis=2))
        rows, columns = (np.flatnonzero((mask == 2).any(axis)) for axis in (1, 0))
        height, width = (int(where[-1] - where[0]) + 1 for where in (rows, columns))
        assert (mask == 2).sum() == height * width  # a full rectangle
        assert all(int(0.3 * 97) <= side <= int(0.8 * 97) for side in (height, width))
    assert (ones == 1).all()
