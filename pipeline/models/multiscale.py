"""Run one picture at several scales and mirrored, fused on the full scale's own grid (section 4.3 of the paper).

Pictures and logits are resized with corners aligned, as Caffe's Interp layer does: a scale s turns n pixels into
s (n - 1) + 1, so that every grid point keeps its place in the picture.
"""

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.scales import Fusion


def scaled_size(size: int, scale: float) -> int:
    """Return the pixels at a scale of a side of `size` pixels, corners aligned."""
    return round((size - 1) * scale) + 1


def fused_logits(
    network: Callable[[Tensor], Tensor],
    batch: Tensor,
    scales: Sequence[float],
    flip: bool,
    fusion: Fusion = "maximum",
) -> Tensor:
    """Fuse the logits of several scales; with `flip`, the means of those of picture and mirror.

    Args:
        network: (N, 3, H, W) -> (N, C, h, w).
        batch: (N, 3, H, W), sizes k * valid_step + 1.
        scales: image scales; above 1 the picture is enlarged, for what is small in it.
        flip: also run the mirrored picture.
        fusion: "maximum" takes the largest logit of each class, as the paper does; "mean" the logarithm of the mean
            posterior.

    Returns:
        (N, C, h, w) on the grid of scale 1.0; those of one scale as they are.
    """
    height, width = batch.shape[-2:]

    def logits_at(scale: float) -> Tensor:
        scaled = resize(batch, (scaled_size(height, scale), scaled_size(width, scale)))  # (N, 3, H', W')
        logits = network(scaled)  # (N, C, h', w')
        if flip:
            logits = (logits + network(scaled.flip(-1)).flip(-1)) / 2
        rows, columns = logits.shape[-2:]
        return resize(logits, (round((rows - 1) / scale) + 1, round((columns - 1) / scale) + 1))  # (N, C, h, w)

    if fusion == "maximum" or len(scales) == 1:
        return functools.reduce(torch.maximum, map(logits_at, scales))
    posteriors = (functional.log_softmax(logits_at(scale), dim=1) for scale in scales)
    return functools.reduce(torch.logaddexp, posteriors) - math.log(len(scales))


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate bilinearly with corners aligned: (N, C, h, w) -> (N, C, *size)."""
    if tuple(x.shape[-2:]) == size:
        return x
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
