import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline import logits
from pipeline.errors import ModelError
from pipeline.geometry import Resize, aligned, half_pixels


@pytest.mark.parametrize(
    ("pixels", "points"),
    [(1, 1), (2, 2), (9, 2), (10, 3), (161, 21), (241, 31), (321, 41), (375, 48), (385, 49), (480, 61), (513, 65)],
)
def test_grid_sizes_at_stride_8(pixels, points):
    assert logits.grid_size(pixels, 8) == points


@given(pixels=st.integers(1, 5000), stride=st.integers(1, 32))
def test_the_grid_covers_the_last_pixel_and_no_more(pixels, stride):
    last = stride * (logits.grid_size(pixels, stride) - 1)
    assert last >= pixels - 1 > last - stride
    assert logits.valid_size(pixels, stride) == last + 1
    assert logits.grid_size(last + 1, stride) == logits.grid_size(pixels, stride)


def grid_for(height, width, stride, labels=3, seed=0):
    shape = (labels, logits.grid_size(height, stride), logits.grid_size(width, stride))
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (1, 50), (50, 1), (33, 65), (30, 47)])
@pytest.mark.parametrize("stride", [1, 8, 5])
def test_upsample_is_bilinear_interpolation_of_the_grid(height, width, stride):
    grid = grid_for(height, width, stride)
    valid = (logits.valid_size(height, stride), logits.valid_size(width, stride))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(grid)[None], size=valid, mode="bilinear", align_corners=True
    )
    full = logits.upsample(grid, height, width, aligned(stride))
    assert full.dtype == np.float32
    np.testing.assert_allclose(full, expected[0, :, :height, :width].numpy(), atol=1e-5)


def test_upsample_meets_the_grid_at_its_points():
    grid = grid_for(41, 57, 8)
    np.testing.assert_array_equal(logits.upsample(grid, 41, 57, aligned(8))[:, ::8, ::8], grid)


@given(data=st.data(), height=st.integers(1, 40), width=st.integers(1, 40), stride=st.sampled_from([1, 3, 8]))
def test_a_window_equals_that_part_of_the_whole(data, height, width, stride):
    grid = grid_for(height, width, stride)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows, columns = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    window = logits.upsample(grid, rows, columns, aligned(stride), top, left)
    whole = logits.upsample(grid, height, width, aligned(stride))
    np.testing.assert_array_equal(window, whole[:, top : top + rows, left : left + columns])


def test_upsample_takes_read_only_strided_float16():
    grid = grid_for(20, 30, 8).astype(np.float16)
    strided = np.repeat(grid, 2, axis=2)[:, :, ::2]
    strided.flags.writeable = False
    expected = logits.upsample(grid.astype(np.float32), 20, 30, aligned(8))
    np.testing.assert_array_equal(logits.upsample(strided, 20, 30, aligned(8)), expected)


@pytest.mark.parametrize(
    ("top", "left", "height", "width"), [(0, 0, 18, 5), (10, 0, 8, 5), (-1, 0, 5, 5), (0, 0, 0, 5)]
)
def test_a_window_outside_the_grid_is_refused(top, left, height, width):
    with pytest.raises(ModelError, match="not covered by a grid of logits"):
        logits.upsample(np.zeros((2, 3, 3), np.float32), height, width, aligned(8), top, left)


@given(hnp.arrays(np.float32, (4, 3, 2), elements=st.floats(-1e4, 1e4, width=32)))
def test_softmax(grid):
    exact = np.exp(grid.astype(np.float64) - grid.max(axis=0))
    exact /= exact.sum(axis=0)
    np.testing.assert_allclose(logits.softmax(grid), exact, atol=1e-6)


def test_softmax_in_place_and_not():
    grid = grid_for(9, 9, 1)
    before = grid.copy()
    fresh = logits.softmax(grid)
    np.testing.assert_array_equal(grid, before)
    assert logits.softmax(grid, out=grid) is grid
    np.testing.assert_array_equal(grid, fresh)
    assert logits.softmax(before.astype(np.float16)).dtype == np.float32


@given(hnp.arrays(np.float16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.floats(width=16)))
def test_bytes_round_trip(grid):
    finite = np.nan_to_num(grid, nan=0.0)
    back = logits.from_bytes(logits.to_bytes(finite), finite.shape)
    np.testing.assert_array_equal(back, finite)
    assert back.dtype == np.float16
    assert not back.flags.writeable


def test_bytes_are_two_a_logit_and_saturate():
    data = logits.to_bytes(np.array([[[1.0, 1e9, -1e9]]], np.float32))
    assert data[:2] == b"\x00\x3c"  # 1.0 in little-endian half precision
    np.testing.assert_array_equal(logits.from_bytes(data, (1, 1, 3)), [[[1, 65504, -65504]]])


def test_bytes_of_another_shape_are_refused():
    with pytest.raises(ModelError, match="6 bytes"):
        logits.from_bytes(bytes(6), (1, 2, 2))


def test_logits_of_a_photograph_are_about_what_they_are():
    """A JPEG of 480x360 pixels has some 43 KB: 11 labels at every second pixel, 2 bytes each, are 960 KB."""
    assert logits.estimated_bytes(11, aligned(2), 480 * 360 // 4) == pytest.approx(11 * 241 * 181 * 2, rel=0.01)


def test_logits_of_pictures_that_are_resized_have_the_size_that_the_network_sees():
    resized = half_pixels(4, Resize(sides=(512, 512)))
    assert {logits.estimated_bytes(150, resized, size) for size in (0, 1000, 10**7)} == {150 * 128 * 128 * 2}


def test_logits_of_images_of_unknown_size_are_few():
    assert logits.estimated_bytes(21, aligned(8), 0) == 42
