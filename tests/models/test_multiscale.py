"""Scales and the mirrored picture, fused on the full scale's grid."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.multiscale import fused_logits, scaled_size
from pipeline.models.scales import Fusion, valid_step

SCALES = (0.5, 0.75, 1.0)


@pytest.mark.parametrize(
    ("scales", "step"), [((1.0,), 8), ((0.5, 1.0), 16), (SCALES, 32), ((0.75,), 32), ((1.0, 1.5), 16)]
)
def test_valid_step(scales: tuple[float, ...], step: int) -> None:
    assert valid_step(8, scales) == step
    for k in range(1, 40):
        assert all((scaled_size(k * step + 1, scale) - 1) % 8 == 0 for scale in scales)


def test_authors_sizes() -> None:
    """The authors' test net runs 513 pixels at 513, 385 and 257."""
    assert [scaled_size(513, scale) for scale in (1.0, 0.75, 0.5)] == [513, 385, 257]


class Recorder:
    """Stands for a network: a random map on the stride-8 grid, the same for the same size; keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.given: list[Tensor] = []

    def __call__(self, batch: Tensor) -> Tensor:
        h, w = ((side - 1) // 8 + 1 for side in batch.shape[-2:])
        torch.manual_seed(len(self.seen))
        self.seen.append(batch)
        self.given.append(torch.randn(len(batch), 3, h, w))
        return self.given[-1]


def test_max_fusion_by_hand() -> None:
    network = Recorder()
    x = torch.randn(2, 3, 65, 97)
    fused = fused_logits(network, x, SCALES, flip=False)
    assert [tuple(seen.shape[-2:]) for seen in network.seen] == [(33, 49), (49, 73), (65, 97)]
    # at half scale with corners aligned, every pixel is every second pixel of the picture
    torch.testing.assert_close(network.seen[0], x[:, :, ::2, ::2])
    resized = [functional.interpolate(logits, (9, 13), mode="bilinear", align_corners=True) for logits in network.given]
    torch.testing.assert_close(fused, torch.stack(resized).amax(0))
    # a grid point that two grids share keeps its value there
    assert (fused[:, :, ::2, ::2] >= network.given[0]).all()


def test_mean_fusion_by_hand() -> None:
    network = Recorder()
    fused = fused_logits(network, torch.randn(2, 3, 65, 97), SCALES, flip=False, fusion="mean")
    resized = [functional.interpolate(logits, (9, 13), mode="bilinear", align_corners=True) for logits in network.given]
    posterior = torch.stack([logits.softmax(1) for logits in resized]).mean(0)  # (N, C, h, w)
    torch.testing.assert_close(fused.softmax(1), posterior)
    torch.testing.assert_close(fused, posterior.log())


def test_a_scale_that_is_sure_of_itself_leaves_the_mean_finite() -> None:
    """The mean of a posterior of 0, as far as float32 goes, and of another is half of the other."""
    answers = iter([torch.tensor([-500.0, 500.0]), torch.tensor([0.0, 0.0])])
    fused = fused_logits(lambda _: next(answers).view(1, 2, 1, 1), torch.zeros(1, 3, 1, 1), (1.0, 1.5), False, "mean")
    torch.testing.assert_close(fused.softmax(1).flatten(), torch.tensor([0.25, 0.75]))
    assert fused.isfinite().all()


def test_an_enlarged_picture_gives_logits_on_the_same_grid() -> None:
    """A network that judges a pixel by its values sees the same ramps at every scale."""
    rows, columns = torch.meshgrid(torch.arange(65.0), torch.arange(33.0), indexing="ij")
    x = torch.stack([rows, columns, rows + columns])[None]
    fused = fused_logits(lambda batch: batch[:, :, ::8, ::8], x, (1.0, 1.5), flip=False)
    torch.testing.assert_close(fused, x[:, :, ::8, ::8])


@pytest.mark.parametrize("fusion", ["maximum", "mean"])
def test_one_scale_is_the_bare_network(fusion: Fusion) -> None:
    network = Recorder()
    x = torch.randn(1, 3, 33, 41)
    fused = fused_logits(network, x, (1.0,), flip=False, fusion=fusion)
    assert fused is network.given[0]
    assert network.seen[0] is x


def test_flip_by_hand() -> None:
    network = Recorder()
    x = torch.randn(1, 3, 33, 41)
    fused = fused_logits(network, x, (1.0,), flip=True)
    torch.testing.assert_close(network.seen[1], x.flip(-1))
    torch.testing.assert_close(fused, (network.given[0] + network.given[1].flip(-1)) / 2)


def test_mirrored_picture_gives_mirrored_logits() -> None:
    """With the flip, logits cannot depend on which way round the picture is."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 4, 9, stride=8, padding=4)
    x = torch.randn(1, 3, 65, 33)
    with torch.inference_mode():
        there, back = (fused_logits(conv, picture, SCALES, flip=True) for picture in (x, x.flip(-1)))
    torch.testing.assert_close(there, back.flip(-1))


def test_a_single_point() -> None:
    fused = fused_logits(Recorder(), torch.randn(1, 3, 1, 1), SCALES, flip=True)
    assert fused.shape == (1, 3, 1, 1)
