"""A device whose memory does not suffice: passes are halved, then tiles, and only then is it an error."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pipeline.models import Inference, Predictor, SegmentationModel
from pipeline.models.predictor import _Tile
from pipeline.models.preprocessing import Image

SETTINGS = Inference(precision="float32", tile=129, overlap=32)


class Small(Predictor):
    """A Predictor on a device that holds a pass of so many `pixels`."""

    def __init__(self, model: SegmentationModel, pixels: int) -> None:
        super().__init__(model, SETTINGS)
        self.pixels, self.passes = pixels, list[int]()

    def _run(self, images: Sequence[torch.Tensor], tiles: Sequence[_Tile]) -> torch.Tensor:
        pixels = sum(tile.rows.size * tile.columns.size for tile in tiles)
        if pixels > self.pixels:
            raise torch.OutOfMemoryError(f"{pixels} pixels needed, {self.pixels} there")
        self.passes.append(pixels)
        return super()._run(images, tiles)


def picture(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_it_is_no_lost_device() -> None:
    """For which a SegmentStage leaves its process."""
    assert not issubclass(torch.OutOfMemoryError, torch.AcceleratorError)


def test_a_pass_is_halved_until_it_fits(model: SegmentationModel) -> None:
    images = [picture(41, 33, seed) for seed in range(7)]
    small = Small(model, 2 * 41 * 33)
    for halved, expected in zip(small.logits(images), Predictor(model, SETTINGS).logits(images), strict=True):
        np.testing.assert_allclose(halved.astype(np.float32), expected.astype(np.float32), rtol=2e-3, atol=2e-3)
    assert sum(small.passes) == 7 * 41 * 33
    assert max(small.passes) == 2 * 41 * 33


def test_a_picture_alone_gets_smaller_tiles(model: SegmentationModel) -> None:
    small = Small(model, 65 * 65)
    [logits] = small.logits([picture(129, 129)])
    assert logits.shape == (3, 17, 17)
    assert np.isfinite(logits).all()
    assert set(small.passes) == {65 * 65}
    assert small.logits([picture(60, 60)])[0].shape == (3, 9, 9)


def test_what_does_not_fit_at_all_is_an_error(model: SegmentationModel) -> None:
    with pytest.raises(torch.OutOfMemoryError, match="4225 pixels needed"):
        Small(model, 1000).logits([picture(129, 129)])
    with pytest.raises(torch.OutOfMemoryError):  # of several, the others would lose by it
        Small(model, 65 * 65).logits([picture(129, 129), picture(33, 33)])
