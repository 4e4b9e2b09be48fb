"""Compute the losses of DeepLab v2: cross-entropy on the network's own grid, at every scale and on their maximum."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.labels import IGNORE
from pipeline.models.deeplab import SegmentationModel
from pipeline.models.multiscale import resize, scaled_size
from pipeline.models.ready import gains_from_bfloat16
from pipeline.training.recipe import Recipe


class Losses(nn.Module):
    """Hold the network together with its losses, so that one forward pass gives all that a step needs.

    With one scale there is one loss. With several there is one for each, on the grid of its own scale, and one on the
    element-wise maximum of their logits on the grid of scale 1 (section 4.1.2, "MSC", and the authors' prototxt).
    """

    def __init__(self, model: SegmentationModel, recipe: Recipe, weights: Tensor | None = None) -> None:
        """Count a point of class c as `weights[c]` points, (C,) float32; as one without."""
        super().__init__()
        self.model = model
        self._weights = weights
        self._scales = recipe.scales
        self._precision = recipe.precision

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute the weighted sum of the cross-entropy over what is labelled, for each loss.

        Args:
            images: (N, 3, H, W), preprocessed.
            labels: (N, H, W) uint8; 255 is not counted.

        Returns:
            (K,) float32.
        """
        height, width = images.shape[-2:]
        in_bfloat16 = self._precision == "bfloat16" or (
            self._precision == "auto" and gains_from_bfloat16(images.device)
        )
        grids = []
        for scale in self._scales:
            scaled = resize(images, (scaled_size(height, scale), scaled_size(width, scale)))  # (N, 3, H', W')
            with torch.autocast(images.device.type, torch.bfloat16, enabled=in_bfloat16):
                grids.append(self.model(scaled))  # (N, C, h, w)
        grids = [grid.float() for grid in grids]
        sums = [
            cross_entropy(grid, on_grid(labels, self.model.stride / scale), self._weights)
            for grid, scale in zip(grids, self._scales, strict=True)
        ]
        if len(grids) > 1:
            target = on_grid(labels, self.model.stride)  # (N, h, w) at scale 1
            size = (target.shape[-2], target.shape[-1])
            fused = functools.reduce(torch.maximum, (resize(grid, size) for grid in grids))  # (N, C, h, w)
            sums.append(cross_entropy(fused, target, self._weights))
        return torch.stack(sums)  # (K,)

    def labelled(self, labels: Tensor) -> Tensor:
        """Add up the weights of the points that each loss counts: (K,) float32, from labels (N, H, W) uint8."""
        strides = [self.model.stride / scale for scale in self._scales]
        if len(strides) > 1:
            strides.append(self.model.stride)
        targets = (on_grid(labels, stride) for stride in strides)
        counted = [target[target != IGNORE].long() for target in targets]  # (points,) each
        if self._weights is None:
            return torch.tensor([len(points) for points in counted], dtype=torch.float32, device=labels.device)
        return torch.stack([self._weights[points].sum() for points in counted])


def on_grid(labels: Tensor, stride: float) -> Tensor:
    """Take labels at the pixels nearest to the grid points (stride i, stride j): (N, H, W) -> (N, h, w)."""
    rows, columns = (
        torch.arange(round((side - 1) / stride) + 1, device=labels.device).mul(stride).round().long()
        for side in labels.shape[-2:]
    )
    return labels[:, rows[:, None], columns]


def class_weights(pixels: Sequence[int], balance: float) -> Tensor:
    """Return what a point of each class counts in the losses: (C,) float32, in proportion to frequency^-balance.

    The mean over all pixels is 1. With a balance of 1 this is the frequency balancing of SegNet (arXiv 1511.00561,
    section 4), up to a factor.

    Args:
        pixels: of each class in the training masks, not all 0. One that is absent weighs as much as the rarest present.
        balance: 0 for the same weight everywhere, 1 for the same share of the loss to each class.
    """
    counts = torch.tensor(pixels, dtype=torch.float64)
    weights = counts.clamp(min=counts[counts > 0].min()) ** -balance
    return (weights * (counts.sum() / (weights * counts).sum())).float()


def cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Add up -weights[target] log softmax(logits)[target] over all points that are labelled.

    Args:
        logits: (N, C, h, w) float32.
        target: (N, h, w); 255 is not counted.
        weights: (C,); 1 for each class without.
    """
    # as a list of points, because on a GPU the loss over maps has no deterministic implementation
    points = logits.permute(0, 2, 3, 1).flatten(0, 2)  # (N h w, C)
    return functional.cross_entropy(points, target.flatten().long(), weights, ignore_index=IGNORE, reduction="sum")
