"""One picture at several scales and mirrored, fused on the stride-8 grid of the full scale (section 4.3 of the paper).

Images and scores are resized with corners aligned, as Caffe's Interp layer does: a scale s turns n pixels into
s (n - 1) + 1, so that every grid point keeps its place in the picture.
"""

import functools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.card import MAX_DENOMINATOR


def valid_step(stride: int, scales: Sequence[float]) -> int:
    """The sizes k * step + 1 are valid for the stride at every scale: 8 for one scale, 32 for {0.5, 0.75, 1}."""
    fractions = (Fraction(scale).limit_denominator(MAX_DENOMINATOR) for scale in scales)
    return stride * math.lcm(*(fraction.denominator for fraction in fractions))


def scaled_size(size: int, scale: float) -> int:
    """Pixels of a side of `size` pixels at a scale, corners aligned."""
    return round((size - 1) * scale) + 1


def fused_logits(network: Callable[[Tensor], Tensor], batch: Tensor, scales: Sequence[float], flip: bool) -> Tensor:
    """Element-wise maximum over scales of the network's scores; with `flip`, each the mean of picture and mirror.

    Args:
        network: (N, 3, H, W) -> (N, C, h, w).
        batch: (N, 3, H, W), sizes k * valid_step + 1.
        scales: image scales; above 1 the picture is enlarged, for what is small in it.
        flip: also score the mirrored picture.

    Returns:
        (N, C, h, w) on the grid of scale 1.0.
    """
    height, width = batch.shape[-2:]

    def scores_at(scale: float) -> Tensor:
        scaled = resize(batch, (scaled_size(height, scale), scaled_size(width, scale)))
        scores = network(scaled)
        if flip:
            scores = (scores + network(scaled.flip(-1)).flip(-1)) / 2
        rows, columns = scores.shape[-2:]
        return resize(scores, (round((rows - 1) / scale) + 1, round((columns - 1) / scale) + 1))

    return functools.reduce(torch.maximum, map(scores_at, scales))


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, h, w) -> (N, C, *size), bilinear with corners aligned."""
    if tuple(x.shape[-2:]) == size:
        return x
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
