"""The losses by hand: which points are counted, at which scale, against which label."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.training.loss import Losses, class_weights, cross_entropy, on_grid
from pipeline.training.recipe import Recipe


def by_hand(logits, labels, stride):
    """-log softmax at every labelled grid point, in float64: the terms of the sum."""
    terms = []
    for n, i, j in itertools.product(range(logits.shape[0]), *map(range, logits.shape[2:])):
        label = labels[n, round(stride * i), round(stride * j)]
        if label != 255:
            point = logits[n, :, i, j].astype(np.float64)
            terms.append(np.log(np.exp(point).sum()) - point[label])
    return terms


@pytest.fixture
def labels():
    masks = np.random.default_rng(0).integers(0, 5, (2, 33, 65)).astype(np.uint8)
    masks[0, 8, 16] = masks[1, :9] = 255
    return masks


def test_cross_entropy_is_the_sum_over_the_labelled_grid_points(labels):
    logits = np.random.default_rng(1).normal(size=(2, 5, 5, 9)).astype(np.float32)
    terms = by_hand(logits, labels, 8)
    assert len(terms) == 2 * 5 * 9 - 1 - 2 * 9
    loss = cross_entropy(torch.from_numpy(logits), on_grid(torch.from_numpy(labels), 8))
    assert loss.item() == pytest.approx(sum(terms), rel=1e-5)


def test_without_a_label_the_loss_is_zero():
    logits = torch.randn(1, 5, 2, 2, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 2, 2), 255, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


class Mean(nn.Module):
    """A network of output stride 8 without weights: five logits from the picture's own values at the grid points."""

    stride = 8

    def forward(self, images):
        grid = images[:, :1, ::8, ::8]
        return torch.cat([grid * factor for factor in (-2.0, -1.0, 0.0, 1.0, 2.0)], dim=1)


def test_three_scales_have_four_losses(labels):
    """One on each scale's own grid, one on the element-wise maximum on the grid of scale 1, weight 1 each."""
    images = np.random.default_rng(2).normal(size=(2, 3, 33, 65)).astype(np.float32)
    losses = Losses(Mean(), Recipe(crop=33, scales=(1.0, 0.75, 0.5)))
    sums = losses(torch.from_numpy(images), torch.from_numpy(labels))
    counts = losses.labelled(torch.from_numpy(labels))
    shapes = {1.0: (5, 9), 0.75: (4, 7), 0.5: (3, 5)}
    grids = {}
    for index, (scale, shape) in enumerate(shapes.items()):
        size = (round(32 * scale) + 1, round(64 * scale) + 1)
        scaled = nn.functional.interpolate(torch.from_numpy(images), size=size, mode="bilinear", align_corners=True)
        grids[scale] = Mean()(scaled)
        assert grids[scale].shape[2:] == shape
        terms = by_hand(grids[scale].numpy(), labels, 8 / scale)
        assert counts[index] == len(terms)
        assert sums[index].item() == pytest.approx(sum(terms), rel=1e-4)
    spread = [
        nn.functional.interpolate(grid, size=shapes[1.0], mode="bilinear", align_corners=True)
        for grid in grids.values()
    ]
    terms = by_hand(torch.stack(spread).amax(dim=0).numpy(), labels, 8)
    assert counts[3] == len(terms)
    assert sums[3].item() == pytest.approx(sum(terms), rel=1e-4)


def test_one_scale_has_one_loss(labels):
    losses = Losses(Mean(), Recipe(crop=33))
    assert losses(torch.randn(2, 3, 33, 65), torch.from_numpy(labels)).shape == (1,)
    assert losses.labelled(torch.from_numpy(labels)).tolist() == [2 * 5 * 9 - 1 - 2 * 9]


def test_weights_multiply_the_terms_of_their_class(labels):
    images = torch.randn(2, 3, 33, 65, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0, 0.0])
    losses = Losses(Mean(), Recipe(crop=33), weights)
    logits = Mean()(images).numpy()
    one_class = [np.where(labels == label, labels, 255) for label in range(5)]
    sums = [sum(by_hand(logits, only, 8)) for only in one_class]
    counts = [len(by_hand(logits, only, 8)) for only in one_class]
    assert losses(images, torch.from_numpy(labels)).item() == pytest.approx(weights.numpy() @ sums, rel=1e-5)
    assert losses.labelled(torch.from_numpy(labels)).item() == pytest.approx(weights.numpy() @ counts)


def test_class_weights_are_a_power_of_the_share_and_one_in_the_mean():
    pixels = np.array([800, 100, 0, 50])
    half = class_weights(pixels.tolist(), 0.5).numpy()
    assert half[2] == half[3]
    assert half[1] / half[0] == pytest.approx(8**0.5)
    assert half[3] / half[0] == pytest.approx(16**0.5)
    assert (half * pixels).sum() / pixels.sum() == pytest.approx(1)
    assert class_weights([3, 5], 0.0).tolist() == [1.0, 1.0]
    shares = class_weights([10, 40, 50], 1.0).numpy() * [10, 40, 50]
    assert shares == pytest.approx(shares[0])
