"""Weights that follow from their names and shapes: those that torchvision's own networks were run with, once."""

import zlib

import torch
from torch import Tensor


def drawn(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Draw a state dict of the given names and shapes, batch statistics included."""
    return {name: _drawn(name, shape) for name, shape in shapes.items()}


def _drawn(name: str, shape: list[int]) -> Tensor:
    if not shape:
        return torch.tensor(7)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if len(shape) > 1:
        inputs = torch.Size(shape[1:]).numel()
        return torch.randn(shape, generator=generator).mul_((2 / inputs) ** 0.5)
    if name.endswith(("weight", "running_var")):
        return 0.5 + torch.rand(shape, generator=generator)
    return 0.2 * torch.randn(shape, generator=generator)
