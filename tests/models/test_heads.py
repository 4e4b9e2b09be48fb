"""Atrous convolution and the heads made of it."""

import pytest
import torch

from pipeline.models.backbones import FeatureInfo
from pipeline.models.heads.aspp import ASPP
from pipeline.models.heads.decoder import Decoder
from pipeline.models.heads.deeplabv3 import ImagePooling
from pipeline.models.heads.pointwise import Pointwise


def one_level(channels: int, fc_channels: int = 0) -> FeatureInfo:
    return FeatureInfo(channels=(channels,), step=8, fc_channels=fc_channels)


@pytest.mark.parametrize("rate", [1, 2, 6, 12])
def test_atrous_convolution_is_the_papers_sum(rate: int) -> None:
    """y[i] = sum_k x[i + r k] w[k] (equation 1), zero outside the signal, k counted from the kernel's centre."""
    torch.manual_seed(rate)
    head = ASPP(one_level(1), 1, [rate])
    signal = torch.randn(40)
    kernel = torch.randn(3)
    with torch.no_grad():
        head.branches[0].weight.zero_()
        head.branches[0].weight[0, 0, 1] = kernel  # along the row only
        filtered = head([signal.expand(1, 1, 1, 40)])[0, 0, 0]
    expected = [
        sum(float(signal[i + rate * k] * kernel[k + 1]) for k in (-1, 0, 1) if 0 <= i + rate * k < 40)
        for i in range(40)
    ]
    torch.testing.assert_close(filtered, torch.tensor(expected), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("rate", "reach"), [(6, 13), (12, 25), (18, 37), (24, 49)])
def test_effective_kernel(rate: int, reach: int) -> None:
    """A k x k kernel at rate r covers k + (k - 1)(r - 1) points."""
    head = ASPP(one_level(1), 1, [rate])
    x = torch.zeros(1, 1, 1, 101)
    x[..., 50] = 1
    touched = head([x])[0, 0, 0].nonzero()[:, 0]
    assert int(touched.max() - touched.min()) + 1 == reach == 3 + 2 * (rate - 1)


def test_aspp_sums_its_branches() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 33, 31)
    for head in (ASPP(one_level(8), 5, [6, 12, 18, 24]), ASPP(one_level(8, 1024), 5, [2, 4, 8, 12]).eval()):
        expected = torch.stack([branch(x) for branch in head.branches]).sum(0)
        torch.testing.assert_close(head([x]), expected)


@pytest.mark.parametrize("head", [ASPP(one_level(512), 21, [6, 12, 18, 24]), Pointwise(one_level(2048), 91)])
def test_initialisation(head: torch.nn.Module) -> None:
    """N(0, 0.01) weights and zero biases: the authors' solver for new layers."""
    weights = torch.cat([p.detach().flatten() for name, p in head.named_parameters() if name.endswith("weight")])
    assert float(weights.std()) == pytest.approx(0.01, rel=0.02)
    assert abs(float(weights.mean())) < 1e-4
    assert all(not p.any() for name, p in head.named_parameters() if name.endswith("bias"))


def test_image_pooling_is_the_mean_everywhere() -> None:
    torch.manual_seed(0)
    pooling = ImagePooling(4, 3).eval()
    x = torch.randn(2, 4, 5, 7)
    spread = pooling(x)
    assert spread.shape == (2, 3, 5, 7)
    torch.testing.assert_close(spread, pooling(x.mean((2, 3), keepdim=True)).expand(2, 3, 5, 7))


def test_the_decoder_joins_features_of_one_place() -> None:
    """A point of the coarse grid, and the finer points at the same pixel, move the logits around that pixel alone."""
    torch.manual_seed(0)
    levels = (16, 24, 40, 320)
    head = Decoder(FeatureInfo(channels=levels, step=16), 3, (1, 2)).eval()
    grids = [torch.zeros(1, channels, side, side) for channels, side in zip(levels, (65, 33, 17, 9), strict=True)]
    still = head(grids)
    assert still.shape == (1, 3, 65, 65)
    reach = (1, 4, 10, 30)  # in points of the finest grid: twice as many, 1 more and 1 for the 3x3 at each step
    for level, point in enumerate((32, 16, 8, 4)):
        moved = [grid.clone() for grid in grids]
        moved[level][0, :, point, point] = 100.0
        rows, columns = (head(moved) - still)[0].abs().sum(0).nonzero().T
        for points in (rows, columns):
            assert points.float().mean().item() == pytest.approx(32, abs=0.5)
            assert points.max() - 32 == reach[level]
