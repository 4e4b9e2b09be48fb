import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from pipeline.errors import CRFError
from pipeline.geometry import aligned
from pipeline.logits import best_label, grid_size, softmax, upsample
from pipeline.refine import Argmax, Labelling, refine_in_tiles
from pipeline.refine.crf import CRFParams, DenseCRF
from pipeline.refine.tiles import tile_side


def picture(height, width):
    return np.asarray(Image.fromarray(data.coffee()).resize((width, height), Image.Resampling.BILINEAR))


def logits_for(image, labels=3, stride=8, noise=1.0):
    """Logits as a network gives them: brightness of the picture at the stride, and noise."""
    shape = (grid_size(image.shape[0], stride), grid_size(image.shape[1], stride))
    small = np.asarray(Image.fromarray(image).convert("L").resize(shape[::-1], Image.Resampling.BOX)) / 255
    steps = np.linspace(small.min(), small.max(), labels)[:, None, None]
    return (-40 * (small - steps) ** 2 + np.random.default_rng(0).normal(size=(labels, *shape)) * noise).astype(
        np.float16
    )


def test_one_tile_is_one_exact_crf():
    image = picture(50, 70)
    logits = logits_for(image)
    crf = DenseCRF()
    posterior = crf(image, softmax(upsample(logits, 50, 70, aligned(8))))
    refined = refine_in_tiles(image, logits, aligned(8), crf)
    mask = posterior.argmax(axis=0)
    np.testing.assert_array_equal(refined.mask, mask)
    assert refined.mask.dtype == np.uint8
    winning = posterior.max(axis=0)
    np.testing.assert_array_equal(refined.posterior, np.rint(255 * winning))
    assert refined.confidence == pytest.approx(winning.mean(), abs=1e-6)
    np.testing.assert_array_equal(refined.pixels, np.bincount(mask.ravel(), minlength=3))
    assert refined.pixels.dtype == np.int64
    expected = [winning[mask == label].mean() if (mask == label).any() else 0 for label in range(3)]
    np.testing.assert_allclose(refined.class_confidence, expected, atol=1e-6)
    assert refined.class_confidence.dtype == np.float32


def test_a_label_that_wins_nowhere_has_confidence_0():
    image = picture(20, 30)
    logits = np.concatenate([logits_for(image), np.full((1, 4, 5), -99, np.float16)])
    refined = refine_in_tiles(image, logits, aligned(8), Argmax())
    assert refined.pixels[3] == 0
    assert refined.class_confidence[3] == 0
    assert refined.pixels.sum() == 20 * 30


def test_the_first_of_equal_labels_wins():
    refined = refine_in_tiles(picture(20, 30), np.zeros((4, 4, 5), np.float16), aligned(8), Argmax())
    assert refined.pixels.tolist() == [600, 0, 0, 0]
    assert refined.confidence == 0.25


def test_tiles_agree_with_the_whole_on_a_photograph():
    image = picture(240, 320)
    logits = logits_for(image, labels=4, noise=2.0)
    crf = DenseCRF(CRFParams(iterations=5, bilateral_xy=20, bilateral_rgb=8))
    whole = refine_in_tiles(image, logits, aligned(8), crf)
    tiled = refine_in_tiles(image, logits, aligned(8), crf, tile=160)
    assert (tiled.mask == whole.mask).mean() >= 0.99
    assert tiled.confidence == pytest.approx(whole.confidence, abs=0.005)
    changed = whole.mask != refine_in_tiles(image, logits, aligned(8), Argmax()).mask
    assert changed.mean() > 0.03  # the CRF did something


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 70), width=st.integers(1, 70), tile=st.integers(1, 80), stride=st.sampled_from([1, 8]))
def test_without_a_crf_tiles_change_nothing(height, width, tile, stride):
    image = np.zeros((height, width, 3), np.uint8)
    shape = (3, grid_size(height, stride), grid_size(width, stride))
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    whole = refine_in_tiles(image, logits, aligned(stride), Argmax())
    tiled = refine_in_tiles(image, logits, aligned(stride), Argmax(), tile=tile)
    np.testing.assert_array_equal(tiled.mask, whole.mask)
    np.testing.assert_array_equal(tiled.posterior, whole.posterior)
    np.testing.assert_array_equal(tiled.pixels, whole.pixels)
    np.testing.assert_allclose(tiled.class_confidence, whole.class_confidence, atol=1e-6)
    assert tiled.confidence == pytest.approx(whole.confidence)


class WindowCheck(DenseCRF):
    """Gives the best labels of the logits, having checked that the picture and the logits show the same window."""

    def label(self, image, logits, geometry, top=0, left=0):
        assert max(image.shape[:2]) <= 20
        best, winning = best_label(softmax(upsample(logits, *image.shape[:2], geometry, top, left)))
        np.testing.assert_array_equal(image[..., 0] > 127, best == 1)
        return Labelling(best, winning, kept=2)


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 90), width=st.integers(1, 90), margin=st.integers(0, 9))
def test_the_crf_sees_the_picture_where_the_logits_are(height, width, margin):
    image = np.random.default_rng(0).integers(0, 2, (height, width, 1), dtype=np.uint8).repeat(3, axis=2) * 255
    bright = image[..., 0] > 127
    logits = np.stack([~bright, bright]).astype(np.float32)  # at stride 1
    refined = refine_in_tiles(image, logits, aligned(1), WindowCheck(), tile=20, margin=margin)
    np.testing.assert_array_equal(refined.mask, bright)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 50), (50, 1)])
@pytest.mark.parametrize("labels", [1, 2, 256])
@pytest.mark.parametrize("refiner", [Argmax(), DenseCRF(CRFParams(iterations=1))])
def test_small_pictures_and_label_counts(shape, labels, refiner):
    image = picture(*shape)
    refined = refine_in_tiles(image, logits_for(image, labels), aligned(8), refiner)
    assert refined.mask.shape == shape
    assert refined.pixels.sum() == image[..., 0].size
    assert 1 / labels - 1e-6 <= refined.confidence <= 1 + 1e-6
    if labels == 1:
        assert refined.confidence == 1


def test_a_line_of_sixty_thousand_pixels():
    image = np.zeros((1, 60_000, 3), np.uint8)
    logits = np.zeros((2, 1, grid_size(60_000, 8)), np.float16)
    logits[0, :, :1000], logits[1, :, 1000:] = 5, 5
    refined = refine_in_tiles(image, logits, aligned(8), DenseCRF(CRFParams(iterations=2, gaussian_xy=3)))
    boundary = np.flatnonzero(np.diff(refined.mask[0]))
    assert len(boundary) == 1
    assert abs(boundary[0] - 7996) < 8


def test_memory_is_bounded_by_the_tile():
    labels, side = 21, 1600
    image = np.zeros((side, side, 3), np.uint8)
    logits = np.zeros((labels, grid_size(side, 8), grid_size(side, 8)), np.float16)
    tracemalloc.start()
    refine_in_tiles(image, logits, aligned(8), Argmax(), tile=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < side * side + 4 * 200 * 200 * labels * 4  # the mask, and a few tiles of probabilities
    assert peak < labels * side * side * 4 / 10


def test_default_tiles_and_margins():
    assert tile_side(2) == tile_side(21) == 1024
    assert tile_side(182) ** 2 * 182 * 4 <= 256 * 2**20
    assert tile_side(182) >= 600  # a COCO picture is one tile
    assert CRFParams().margin(1024) == 134
    assert CRFParams().margin(200) == 50
    assert CRFParams(bilateral_weight=0).margin(1024) == 2
    assert CRFParams(bilateral_weight=0, gaussian_weight=0).margin(1024) == 0


def test_read_only_input():
    image = picture(20, 30)
    logits = logits_for(image)
    image.flags.writeable = logits.flags.writeable = False
    assert refine_in_tiles(image, logits, aligned(8), DenseCRF()).mask.shape == (20, 30)


@pytest.mark.parametrize("refiner", [Argmax(), DenseCRF()])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused_with_their_place(refiner, value):
    image = picture(20, 30)
    logits = logits_for(image)
    logits[2, 1, 3] = value
    with pytest.raises(CRFError, match=f"label 2 at grid row 1, column 3 is {value}"):
        refine_in_tiles(image, logits, aligned(8), refiner)


@pytest.mark.parametrize(
    ("image_shape", "logits_shape", "tiling", "message"),
    [
        ((20, 30), (3, 4, 5), {}, "takes an image"),
        ((20, 30, 3), (3, 5, 4), {}, "takes logits"),
        ((20, 30, 3), (3, 4, 6), {}, "takes logits"),
        ((20, 30, 3), (0, 4, 5), {}, "takes logits"),
        ((20, 30, 3), (257, 4, 5), {}, "takes logits"),
        ((20, 30, 3), (4, 5), {}, "takes logits"),
        ((20, 30, 3), (3, 4, 5), {"tile": 10, "margin": 5}, "no core"),
        ((20, 30, 3), (3, 4, 5), {"tile": 0}, "no core"),
        ((20, 30, 3), (3, 4, 5), {"margin": -1}, "no core"),
    ],
)
def test_wrong_input_is_refused(image_shape, logits_shape, tiling, message):
    with pytest.raises(CRFError, match=message):
        refine_in_tiles(
            np.zeros(image_shape, np.uint8), np.zeros(logits_shape, np.float32), aligned(8), DenseCRF(), **tiling
        )
