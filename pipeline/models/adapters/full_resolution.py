"""Bring the logits of other frameworks to the points of a grid.

Those of every pixel are brought to a coarser one, so that their memory is bounded whatever the number of classes.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

_FLOAT16_BYTES = 2
_MOST_BYTES = 20


def kept_stride(classes: int) -> int:
    """Return the stride in pixels at which logits of every pixel are kept: 1 up to 10 classes, 2 to 40, 4 to 160, 8.

    In float16 they then take at most 20 bytes for each pixel of the picture, whose colours take 3.
    """
    stride = 1
    while _FLOAT16_BYTES * classes > _MOST_BYTES * stride**2:
        stride *= 2
    return stride


def centres_of_squares(logits: Tensor, stride: int) -> Tensor:
    """Bring logits (N, C, H, W) of every pixel to (N, C, h, w): those in the middle of each square of `stride` pixels.

    That is the mean of the four pixels there. Most networks have interpolated their logits from such a grid.
    """
    if stride == 1:
        return logits
    whole = functional.pad(logits, (0, -logits.shape[3] % stride, 0, -logits.shape[2] % stride), mode="replicate")
    first = stride // 2 - 1
    return functional.avg_pool2d(whole[..., first:, first:], 2, stride=stride)


def corners_of_squares(logits: Tensor, stride: int) -> Tensor:
    """Bring logits (N, C, H, W) of every pixel to (N, C, h, w): those on every pixel stride * i, as aligned grids lie.

    Where the last pixel is none of them, one more stands behind it, of the same logits.
    """
    whole = functional.pad(
        logits, (0, -(logits.shape[3] - 1) % stride, 0, -(logits.shape[2] - 1) % stride), "replicate"
    )
    return whole[..., ::stride, ::stride]


def spread(logits: Tensor, points: Sequence[int]) -> Tensor:
    """Interpolate logits (N, C, h', w') by half pixels to h x w `points`, where they are more or fewer."""
    if list(logits.shape[2:]) == list(points):
        return logits
    return functional.interpolate(logits, size=list(points), mode="bilinear", align_corners=False)
