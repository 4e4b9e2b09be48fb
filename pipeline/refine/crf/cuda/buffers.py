"""Device memory that serves one window after the other."""

import math

import torch
from torch import Tensor


class Buffers:
    """Hold one buffer for each name, as large as the largest that was asked for.

    A buffer stays in its place until a larger one is asked for, so that a CUDA graph of launches fits the next window,
    too. What was taken under a name holds what was in it until it is written to.
    """

    def __init__(self, device: torch.device) -> None:
        """Choose the device."""
        self._device = device
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Give the buffer of a name as a contiguous tensor; what was taken under the name before is gone."""
        size = math.prod(shape) * dtype.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            self._buffers.pop(name, None)  # gone before the larger one is made
            buffer = self._buffers[name] = torch.empty(size, dtype=torch.uint8, device=self._device)
        return buffer[:size].view(dtype).view(shape)
