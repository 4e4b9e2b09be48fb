"""Logits of every pixel are kept at a stride that bounds their memory."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.geometry import aligned, half_pixels
from pipeline.logits import upsample
from pipeline.models.adapters.full_resolution import centres_of_squares, corners_of_squares, kept_stride, spread


def test_a_pixel_has_at_most_twenty_bytes_whatever_the_number_of_classes() -> None:
    strides = {classes: kept_stride(classes) for classes in range(2, 257)}
    assert all(2 * classes / stride**2 <= 20 for classes, stride in strides.items())
    assert [strides[classes] for classes in (2, 10, 11, 40, 41, 160, 161, 256)] == [1, 1, 2, 2, 4, 4, 8, 8]


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_centres_of_squares_are_those_of_half_pixels(stride: int) -> None:
    """Logits that rise evenly are the same again once they are upsampled, but for the border."""
    height, width = 22, 31
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    logits = (rows + 2.0 * columns)[None, None]  # (1, 1, H, W)
    grid = centres_of_squares(logits, stride)[0].numpy()
    full = upsample(grid, height, width, half_pixels(stride))[0]
    inside = slice(stride, -stride)
    np.testing.assert_allclose(full[inside, inside], logits[0, 0].numpy()[inside, inside], atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(25, 33), (22, 31)])
def test_corners_of_squares_are_those_of_an_aligned_grid(stride: int, height: int, width: int) -> None:
    """Logits that rise evenly are the same again once they are upsampled, up to the last point within the picture."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    logits = (rows + 2.0 * columns)[None, None]  # (1, 1, H, W)
    grid = corners_of_squares(logits, stride)[0].numpy()
    assert grid.shape[1:] == aligned(stride).grid(height, width)
    full = upsample(grid, height, width, aligned(stride))[0]
    inside = np.s_[: (height - 1) // stride * stride + 1, : (width - 1) // stride * stride + 1]
    np.testing.assert_allclose(full[inside], logits[0, 0].numpy()[inside], atol=1e-4)


def test_logits_are_spread_by_half_pixels_where_their_points_are_others() -> None:
    logits = torch.rand(2, 3, 16, 24)
    assert spread(logits, [16, 24]) is logits
    expected = functional.interpolate(logits, size=(17, 25), mode="bilinear", align_corners=False)
    assert torch.equal(spread(logits, [17, 25]), expected)
