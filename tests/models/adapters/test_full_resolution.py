"""Logits of every pixel are kept at a stride that bounds their memory."""

import numpy as np
import pytest
import torch

from pipeline.geometry import half_pixels
from pipeline.logits import upsample
from pipeline.models.adapters.full_resolution import centres_of_squares, kept_stride


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
