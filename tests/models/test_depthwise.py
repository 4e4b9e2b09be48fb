"""Depthwise convolutions give what the library's own give, and their gradients."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.depthwise import Depthwise

SIDES = [(17, 17), (8, 13), (3, 2), (1, 1)]


def layer_of(kernel: int, stride: int, rate: int) -> Depthwise:
    return Depthwise(6, 6, kernel, stride, rate * (kernel - 1) // 2, rate, groups=6)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("stride", "rate"), [(1, 1), (1, 2), (1, 4), (2, 1)])
@pytest.mark.parametrize("sides", SIDES)
def test_depthwise_equals_the_librarys(kernel: int, stride: int, rate: int, sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = layer_of(kernel, stride, rate).double()
    x = torch.randn(2, 6, *sides, dtype=torch.float64, requires_grad=True)
    parameters = [x, layer.weight, layer.bias]
    filtered, expected = layer(x), nn.Conv2d.forward(layer, x)
    torch.testing.assert_close(filtered, expected)
    weights = torch.randn_like(expected)
    gradients = (torch.autograd.grad((y * weights).sum(), parameters) for y in (filtered, expected))
    torch.testing.assert_close(*gradients)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize(("stride", "rate"), [(1, 1), (1, 2), (2, 1), (3, 1)])
@pytest.mark.parametrize("sides", SIDES)
def test_gradients_in_bfloat16_are_those_of_float32(
    kernel: int, stride: int, rate: int, sides: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = layer_of(kernel, stride, rate)
    for parameter in layer.parameters():
        parameter.data = parameter.data.bfloat16().float()
    x = torch.randn(2, 6, *sides).bfloat16().float().requires_grad_()
    parameters = [x, layer.weight, layer.bias]
    expected = nn.Conv2d.forward(layer, x)
    weights = torch.randn_like(expected).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        filtered = layer(x)
    assert filtered.dtype == torch.bfloat16
    is_close(filtered, expected)
    found, right = (torch.autograd.grad(y, parameters, weights.to(y.dtype)) for y in (filtered, expected))
    for one, other in zip(found, right, strict=True):
        is_close(one, other)


def is_close(found: Tensor, expected: Tensor) -> None:
    largest = expected.abs().max()
    assert (found.float() - expected).abs().max() <= 0.02 * largest
