"""The losses of DeepLab v2: cross-entropy on the network's own grid, at every scale and on their maximum."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.masks import IGNORE
from pipeline.models.deeplab import SegmentationModel
from pipeline.models.multiscale import resize, scaled_size
from pipeline.training.recipe import Recipe


class Losses(nn.Module):
    """The network together with its losses, so that one forward pass gives all that a step needs.

    With one scale there is one loss. With several there is one for each, on the grid of its own scale, and one on the
    element-wise maximum of their scores on the grid of scale 1 (section 4.1.2, "MSC", and the authors' prototxt).
    """

    def __init__(self, model: SegmentationModel, recipe: Recipe) -> None:
        super().__init__()
        self.model = model
        self._scales = recipe.scales
        self._bfloat16 = recipe.precision == "bfloat16"

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The sum of the cross-entropy over what is labelled, for each loss.

        Args:
            images: (N, 3, H, W), preprocessed.
            labels: (N, H, W) uint8; 255 is not counted.

        Returns:
            (K,) float32.
        """
        height, width = images.shape[-2:]
        grids = []
        for scale in self._scales:
            scaled = resize(images, (scaled_size(height, scale), scaled_size(width, scale)))
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self._bfloat16):
                grids.append(self.model(scaled))  # (N, C, h, w)
        grids = [grid.float() for grid in grids]
        sums = [
            cross_entropy(grid, on_grid(labels, self.model.stride / scale))
            for grid, scale in zip(grids, self._scales, strict=True)
        ]
        if len(grids) > 1:
            target = on_grid(labels, self.model.stride)
            size = (target.shape[-2], target.shape[-1])
            fused = functools.reduce(torch.maximum, (resize(grid, size) for grid in grids))
            sums.append(cross_entropy(fused, target))
        return torch.stack(sums)

    def labelled(self, labels: Tensor) -> Tensor:
        """How many grid points each loss counts: (K,) float32, from labels (N, H, W) uint8."""
        strides = [self.model.stride / scale for scale in self._scales]
        if len(strides) > 1:
            strides.append(self.model.stride)
        return torch.stack([(on_grid(labels, stride) != IGNORE).sum() for stride in strides]).float()


def on_grid(labels: Tensor, stride: float) -> Tensor:
    """Labels (N, H, W) at the pixels nearest to the grid points (stride i, stride j): (N, h, w)."""
    rows, columns = (
        torch.arange(round((side - 1) / stride) + 1, device=labels.device).mul(stride).round().long()
        for side in labels.shape[-2:]
    )
    return labels[:, rows[:, None], columns]


def cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """The sum over all points that are labelled of -log softmax(scores)[target].

    Args:
        scores: (N, C, h, w) float32.
        target: (N, h, w); 255 is not counted.
    """
    # as a list of points, because on a GPU the loss over maps has no deterministic implementation
    points = scores.permute(0, 2, 3, 1).flatten(0, 2)  # (N h w, C)
    return functional.cross_entropy(points, target.flatten().long(), ignore_index=IGNORE, reduction="sum")
