"""The grid of logits that travels from the network to the CRF: its geometry, upsampling, softmax and bytes.

For an output stride s, grid point (i, j) is centred on pixel (s*i, s*j). An image of H x W pixels has a grid of
grid_size(H, s) x grid_size(W, s) points, so every pixel lies between grid points and no logit is extrapolated.
"""

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError

Floats = NDArray[np.floating]

_FLOAT16_MAX = float(np.finfo(np.float16).max)


def grid_size(pixels: int, stride: int) -> int:
    """Return the number of grid points that cover a side of `pixels` pixels: ceil((pixels - 1) / stride) + 1."""
    return -(-(pixels - 1) // stride) + 1


def valid_size(pixels: int, stride: int) -> int:
    """Return the smallest stride*m + 1 >= pixels: the side whose last pixel is a grid point."""
    return stride * (grid_size(pixels, stride) - 1) + 1


def upsample(logits: Floats, height: int, width: int, stride: int, top: int = 0, left: int = 0) -> NDArray[np.float32]:
    """Interpolate the logits of one window of the picture, bilinearly.

    Pixel (y, x) reads the grid at (y / stride, x / stride). This is Caffe's Interp, or align_corners=True towards
    valid_size, then a crop. Memory is bounded by the window, not by the grid.

    Args:
        logits: (C, h, w) of any float type.
        height: rows of the window, in pixels.
        width: columns of the window, in pixels.
        stride: output stride of the network, in pixels.
        top: the window's first row in the picture, in pixels.
        left: the window's first column in the picture, in pixels.

    Returns:
        (C, height, width) float32.

    Raises:
        ModelError: the window reaches beyond the grid.
    """
    grid, top, left = window(logits, height, width, stride, top, left)
    grid = grid.astype(np.float32)  # (C, h', w')
    # columns first: they are stretched while there are still few rows
    wide = np.empty((*grid.shape[:2], width), np.float32)  # (C, h', width)
    _stretch(grid.swapaxes(1, 2), stride, left, wide.swapaxes(1, 2))
    full = np.empty((grid.shape[0], height, width), np.float32)
    _stretch(wide, stride, top, full)
    return full


def window(logits: Floats, height: int, width: int, stride: int, top: int, left: int) -> tuple[Floats, int, int]:
    """Cut out the part of the grid (C, h', w') that covers a window of the picture, as a view.

    Returns:
        The view, and the window's first row and column in pixels from the view's first point; both are below `stride`.

    Raises:
        ModelError: the window reaches beyond the grid.
    """
    rows = grid_size(top + height, stride)
    columns = grid_size(left + width, stride)
    if (
        logits.ndim != 3
        or min(top, left) < 0
        or min(height, width) < 1
        or rows > logits.shape[1]
        or columns > logits.shape[2]
    ):
        raise ModelError(
            f"a window of {height}x{width} pixels at ({top}, {left}) is not covered by a grid of logits of shape "
            f"{logits.shape} at stride {stride}; pass the grid of the whole picture"
        )
    return logits[:, top // stride : rows, left // stride : columns], top % stride, left % stride


def _stretch(grid: NDArray[np.float32], stride: int, start: int, out: NDArray[np.float32]) -> None:
    """Interpolate axis 1 of `grid` (C, n, m) into `out` (C, size, m), which begins `start` rows below grid row 0."""
    slope = np.diff(grid, axis=1)
    for phase in range(stride):  # all rows at the same distance below a grid row share one weight
        first = (phase - start) % stride
        rows = out[:, first::stride]
        top = (start + first) // stride
        below = slice(top, top + rows.shape[1])
        if phase == 0:
            rows[...] = grid[:, below]
        elif rows.shape[1]:
            np.multiply(slope[:, below], np.float32(phase / stride), out=rows)
            rows += grid[:, below]


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
