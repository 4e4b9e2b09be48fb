"""The shared building block: an atrous depthwise convolution gives what the library's own gives, and its gradients."""

import pytest
import torch
from torch import nn

from pipeline.models.layers import AtrousDepthwise


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("rate", [1, 2, 4])
@pytest.mark.parametrize("sides", [(17, 17), (8, 13), (3, 2), (1, 1)])
def test_atrous_depthwise_equals_the_librarys(kernel: int, rate: int, sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    padding = rate * (kernel - 1) // 2
    layer = AtrousDepthwise(6, 6, kernel, padding=padding, dilation=rate, groups=6).double()
    x = torch.randn(2, 6, *sides, dtype=torch.float64, requires_grad=True)
    parameters = [x, layer.weight, layer.bias]
    filtered, expected = layer(x), nn.Conv2d.forward(layer, x)
    torch.testing.assert_close(filtered, expected)
    weights = torch.randn_like(expected)
    gradients = (torch.autograd.grad((y * weights).sum(), parameters) for y in (filtered, expected))
    torch.testing.assert_close(*gradients)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
