"""The grid of logits that travels from the network to the CRF: its upsampling, softmax and bytes.

A Geometry places it in the picture. In this project's own networks grid point (i, j) of output stride s is centred on
pixel (s*i, s*j): an image of H x W pixels has a grid of grid_size(H, s) x grid_size(W, s) points, so every pixel lies
between grid points and no logit is extrapolated.
"""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.geometry import Axis, Geometry

Floats = NDArray[np.floating]
Grid = TypeVar("Grid", bound=Floats)

_PIXELS_A_BYTE = 4
"""Of a JPEG of good quality. A PNG has fewer, so that its logits are taken for larger than they are."""

_FLOAT16_MAX = float(np.finfo(np.float16).max)


def grid_size(pixels: int, stride: int) -> int:
    """Return the number of grid points that cover a side of `pixels` pixels: ceil((pixels - 1) / stride) + 1."""
    return -(-(pixels - 1) // stride) + 1


def valid_size(pixels: int, stride: int) -> int:
    """Return the smallest stride*m + 1 >= pixels: the side whose last pixel is a grid point."""
    return stride * (grid_size(pixels, stride) - 1) + 1


def upsample(
    logits: Floats, height: int, width: int, geometry: Geometry, top: int = 0, left: int = 0
) -> NDArray[np.float32]:
    """Interpolate the logits of one window of the picture, bilinearly.

    At stride s pixel (y, x) reads an aligned grid at (y / s, x / s): Caffe's Interp, or align_corners=True towards
    valid_size, then a crop. A grid of half pixels is read at ((y + 1/2) / s - 1/2, ...), clamped: align_corners=False.
    Memory is bounded by the window, not by the grid.

    Args:
        logits: (C, h, w) of any float type.
        height: rows of the window, in pixels.
        width: columns of the window, in pixels.
        geometry: of the grid in the picture.
        top: the window's first row in the picture, in pixels.
        left: the window's first column in the picture, in pixels.

    Returns:
        (C, height, width) float32.

    Raises:
        ModelError: the window reaches beyond the grid.
    """
    grid, rows, columns = window(logits, height, width, geometry, top, left)
    return interpolate(grid, height, width, rows, columns)


def interpolate(grid: Floats, height: int, width: int, rows: Axis, columns: Axis) -> NDArray[np.float32]:
    """Interpolate what `window` gave: (C, h', w') of any float type -> (C, height, width) float32."""
    grid = grid.astype(np.float32)  # (C, h', w')
    # columns first: they are stretched while there are still few rows
    wide = np.empty((*grid.shape[:2], width), np.float32)  # (C, h', width)
    _stretch(grid.swapaxes(1, 2), columns, wide.swapaxes(1, 2))
    full = np.empty((grid.shape[0], height, width), np.float32)
    _stretch(wide, rows, full)
    return full


def window(logits: Grid, height: int, width: int, geometry: Geometry, top: int, left: int) -> tuple[Grid, Axis, Axis]:
    """Cut out the part of the grid (C, h', w') that covers a window of the picture, as a view.

    Returns:
        The view, and where the window's rows and columns of pixels lie from the view's first point.

    Raises:
        ModelError: the window reaches beyond the grid.
    """
    if (
        logits.ndim != 3
        or min(top, left) < 0
        or min(height, width) < 1
        or geometry.points(top + height, 0) > logits.shape[1]
        or geometry.points(left + width, 1) > logits.shape[2]
    ):
        raise ModelError(
            f"a window of {height}x{width} pixels at ({top}, {left}) is not covered by a grid of logits of shape "
            f"{tuple(logits.shape)} at stride {geometry.strides[0]}, {geometry.strides[1]}; pass the grid of the whole "
            "picture"
        )
    above, below, rows = geometry.axis(0, top, height)
    before, after, columns = geometry.axis(1, left, width)
    return logits[:, above:below, before:after], rows, columns  # type: ignore[return-value]  # of an array, an array


def _stretch(grid: NDArray[np.float32], axis: Axis, out: NDArray[np.float32]) -> None:
    """Interpolate axis 1 of `grid` (C, n, m) into `out` (C, size, m), whose rows lie as `axis` says."""
    position, last = axis.step * np.arange(out.shape[1]) + axis.offset, grid.shape[1] - 1
    above, shares = position // axis.unit, (position % axis.unit / axis.unit).astype(np.float32)
    for point in range(int(above[0]), int(above[-1]) + 1):
        begin, end = np.searchsorted(above, (point, point + 1))  # of the rows between this point and the next
        here, there = grid[:, min(max(point, 0), last)], grid[:, min(max(point + 1, 0), last)]
        np.multiply((there - here)[:, None], shares[begin:end, None], out=out[:, begin:end])
        out[:, begin:end] += here[:, None]


def softmax(logits: Floats, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Compute the softmax over the labels, exp(x_c) / sum_k exp(x_k), safe for large logits.

    Args:
        logits: (C, H, W) of any float type.
        out: a (C, H, W) float32 array to write to; it may be `logits` itself.

    Returns:
        (C, H, W) float32; `out` where it is given.
    """
    out = np.subtract(logits, logits.max(axis=0), out=out, dtype=np.float32)
    np.exp(out, out=out)
    out *= 1 / out.sum(axis=0)
    return out


def best_label(probabilities: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return index and value (H, W) of the largest of (C, H, W), the first of equals; faster than argmax."""
    winning = probabilities[0].copy()
    best = np.zeros(winning.shape, np.uint8)
    for label in range(1, len(probabilities)):
        best[probabilities[label] > winning] = label
        np.maximum(winning, probabilities[label], out=winning)
    return best, winning


def native_floats(array: Floats) -> Floats:
    """Return floats as this machine's own float16, float32 or float64, which compiled code takes; a copy if need be."""
    kind = np.dtype(np.float64) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return array.astype(kind, copy=False)


def all_finite(array: Floats) -> bool:
    """Tell whether no value is a NaN, or infinite once it is a float32."""
    return bool((np.abs(array) <= np.finfo(np.float32).max).all())


def to_bytes(logits: Floats) -> bytes:
    """Pack logits (C, h, w) as little-endian float16 bytes, C-contiguous; values beyond float16 saturate."""
    return np.clip(logits, -_FLOAT16_MAX, _FLOAT16_MAX).astype("<f2").tobytes()


def from_bytes(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float16]:
    """View what to_bytes wrote as read-only (C, h, w) float16; nothing is copied.

    Raises:
        ModelError: the number of bytes does not agree with the shape.
    """
    if len(data) != 2 * math.prod(shape):
        raise ModelError(f"{len(data)} bytes of float16 logits do not fill the shape {tuple(shape)}")
    view = np.frombuffer(data, "<f2").reshape(shape)
    view.flags.writeable = False
    return view


def estimated_bytes(classes: int, geometry: Geometry, encoded_bytes: int) -> int:
    """Estimate the bytes of an image's logits, as `to_bytes` gives them, from those of the encoded image."""
    side = math.isqrt(max(encoded_bytes * _PIXELS_A_BYTE, 1))
    rows, columns = geometry.grid(side, side)
    return classes * rows * columns * 2
