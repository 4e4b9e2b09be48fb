"""Grids of both origins against PyTorch's own upsampling: by NumPy, in windows, in tiles, and by the compiled core."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.errors import ConfigError
from pipeline.geometry import Geometry, Resize, aligned, half_pixels
from pipeline.logits import upsample
from pipeline.refine import Argmax, refine_in_tiles
from pipeline.refine.crf import CRFParams, DenseCRF

CORNERS = {"aligned": True, "half": False}
UNREFINED = CRFParams(iterations=0)


def grid_of(geometry: Geometry, height: int, width: int, labels: int = 5) -> NDArray[np.float32]:
    shape = (labels, *geometry.grid(height, width))
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def by_torch(grid: NDArray[np.float32], geometry: Geometry, height: int, width: int) -> NDArray[np.float32]:
    """What the framework gives: all that the grid covers, and of that the picture."""
    seen = geometry.resized(height, width)
    size = [geometry.valid_size(side, geometry.stride) for side in seen] if geometry.resize is None else (height, width)
    corners = CORNERS[geometry.origin]
    full = functional.interpolate(torch.from_numpy(grid)[None], size=size, mode="bilinear", align_corners=corners)
    whole: NDArray[np.float32] = full[0, :, :height, :width].numpy()
    return whole


GEOMETRIES = {
    "aligned, 8": aligned(8),
    "half, 4": half_pixels(4),
    "half, 8": half_pixels(8),
    "half, 5": half_pixels(5),
    "half, 1": half_pixels(1),
    "half, 4, resized": half_pixels(4, Resize(sides=(64, 96))),
    "aligned, 8, resized": aligned(8, Resize(sides=(65, 97))),
    "half, 8, stretched": half_pixels(8, Resize(shortest=65), spans=True),
}


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (47, 30), (120, 160)])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_logits_are_those_of_the_framework(name: str, size: tuple[int, int]) -> None:
    geometry = GEOMETRIES[name]
    grid = grid_of(geometry, *size)
    full = upsample(grid, *size, geometry.over(*size))
    np.testing.assert_allclose(full, by_torch(grid, geometry, *size), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("refiner", [Argmax(), DenseCRF(UNREFINED, prune=0), DenseCRF(UNREFINED, "pydensecrf")])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_masks_are_those_of_the_framework_whole_and_in_tiles(name: str, refiner: Argmax | DenseCRF) -> None:
    geometry, (height, width) = GEOMETRIES[name], (203, 310)
    grid = grid_of(geometry, height, width)
    image = np.zeros((height, width, 3), np.uint8)
    expected = by_torch(grid, geometry, height, width).argmax(axis=0)
    for tile in (1024, 64):
        assert (refine_in_tiles(image, grid, geometry, refiner, tile=tile).mask == expected).mean() >= 0.999


@settings(deadline=None)
@given(
    data=st.data(),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    geometry=st.sampled_from(list(GEOMETRIES.values())),
)
def test_a_window_equals_that_part_of_the_whole(
    data: st.DataObject, height: int, width: int, geometry: Geometry
) -> None:
    placed = geometry.over(height, width)
    grid = grid_of(geometry, height, width, labels=3)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows, columns = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    window = upsample(grid, rows, columns, placed, top, left)
    whole = upsample(grid, height, width, placed)
    np.testing.assert_allclose(window, whole[:, top : top + rows, left : left + columns], atol=1e-6)


@pytest.mark.parametrize(
    ("resize", "size", "expected"),
    [
        (Resize(sides=(512, 512)), (360, 480), (512, 512)),
        (Resize(shortest=256), (360, 480), (256, 341)),
        (Resize(shortest=256), (480, 360), (341, 256)),
        (Resize(shortest=800, longest=1333), (300, 900), (444, 1333)),
        (Resize(shortest=800, longest=2048), (105, 3000), (72, 2048)),
        (Resize(shortest=800, longest=1333), (1, 3000), (1, 1333)),
        (Resize(shortest=800, longest=1000), (100, 1001), (100, 1001)),  # as it has the side already
        (Resize(shortest=256, multiple=32), (360, 480), (256, 352)),
        (Resize(sides=(500, 10), multiple=32), (360, 480), (512, 32)),
        (Resize(shortest=70, multiple=32, rounding="up"), (120, 160), (96, 96)),
        (Resize(sides=(64, 65), multiple=32, rounding="up"), (120, 160), (64, 96)),
    ],
)
def test_sides_of_resized_pictures(resize: Resize, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resize.of(*size) == expected


def test_what_is_no_rule_of_sizes_is_refused() -> None:
    with pytest.raises(ConfigError, match="either both sides or the shorter one"):
        Resize()
    with pytest.raises(ConfigError, match="a side of 0 pixels"):
        Resize(sides=(0, 5))
    for side in (True, 64.5):
        with pytest.raises(ConfigError, match=f"a side of {side} pixels"):
            Resize(sides=(64, side))
    for resample in (-1, 6):
        with pytest.raises(ConfigError, match=f"resample is {resample}; it must be a filter of Pillow, from 0 to 5"):
            Resize(shortest=5, resample=resample)
