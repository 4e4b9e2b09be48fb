"""Convolve each channel by itself, with gradients that the CPU library has vector code for."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight


class Depthwise(nn.Conv2d):
    """Convolve each channel by itself, perhaps strided or atrous, with a square kernel of odd side, centred.

    On a CPU some of what that takes is computed by detours, because the library has no vector code for it:

    - At rate d and stride 1 a picture falls into d x d phases that do not see each other, and on each of them the
      convolution is an ordinary one: above rate 2, and for gradients.
    - In bfloat16, as `GradientsInBfloat16` says.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Filter each channel: (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride))."""
        rate, stride = self.dilation[0], self.stride[0]
        is_fast = rate == 1 or stride > 1 or (rate == 2 and not torch.is_grad_enabled())
        if input.device.type != "cpu":
            return super().forward(input)
        if is_fast:
            return self._filter(input, rate)
        count, channels, height, width = input.shape
        rows, columns = -(-height // rate), -(-width // rate)
        padded = functional.pad(input, (0, rate * columns - width, 0, rate * rows - height)).permute(0, 2, 3, 1)
        cells = padded.reshape(count, rows, rate, columns, rate, channels)  # from (N, d rows, d columns, C)
        phases = cells.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)  # (N d d, rows, columns, C)
        filtered = self._filter(phases.permute(0, 3, 1, 2), 1).permute(0, 2, 3, 1)  # the same shape
        cells = filtered.reshape(count, rate, rate, rows, columns, channels).permute(0, 3, 1, 4, 2, 5)
        whole = cells.reshape(count, rate * rows, rate * columns, channels)  # from (N, rows, d, columns, d, C)
        return whole[:, :height, :width].contiguous().permute(0, 3, 1, 2)

    def _filter(self, x: Tensor, rate: int) -> Tensor:
        weight, bias, stride = self.weight, self.bias, self.stride[0]
        if torch.is_autocast_enabled("cpu"):
            x, weight = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (x, weight))
        if x.dtype == weight.dtype == torch.bfloat16 and rate == 1 and torch.is_grad_enabled():
            filtered: Tensor = GradientsInBfloat16.apply(x, weight, stride)  # type: ignore[no-untyped-call]
            return filtered if bias is None else filtered + bias.to(x.dtype)[:, None, None]
        margin = rate * (self.kernel_size[0] // 2)
        return functional.conv2d(x, weight, bias, stride, margin, rate, self.groups)


class GradientsInBfloat16(torch.autograd.Function):
    """Filter each channel as conv2d does; its gradients in bfloat16 are composed of convolutions that are fast.

    The CPU library (oneDNN) takes ten to a hundred times a forward pass for two gradients: that of the input at a
    stride, and that of kernels larger than 3 x 3.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """Filter (N, C, H, W) with (C, 1, k, k), k odd, to (N, C, ceil(H / stride), ceil(W / stride))."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Return the gradients of input and weight."""
        x, weight = ctx.saved_tensors
        need_x, need_weight, _ = ctx.needs_input_grad
        of_x = _of_input(gradient, x, weight, ctx.stride) if need_x else None
        of_weight = _of_weight(gradient, x, weight, ctx.stride) if need_weight else None
        return of_x, of_weight, None


def _of_input(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Put the gradient on the input's grid, with zeros between, and filter it with the kernel turned by 180 degrees."""
    if stride > 1:
        between = torch.zeros_like(x)
        between[:, :, ::stride, ::stride] = gradient
        gradient = between
    return functional.conv2d(gradient, weight.flip((2, 3)), None, 1, weight.shape[-1] // 2, 1, len(weight))


def _of_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Compute the kernel's gradient in pieces of 3 x 3, each that of a 3 x 3 kernel on the input moved to its place."""
    side, channels = weight.shape[-1], len(weight)
    margin, piece = side // 2, min(side, 3)
    padded = functional.pad(x, (margin,) * 4)
    height, width = (stride * (points - 1) + piece for points in gradient.shape[-2:])
    corners = sorted({*range(0, side - 2, 3), side - piece})
    whole = torch.empty_like(weight)
    for top in corners:
        for left in corners:
            under = padded[:, :, top : top + height, left : left + width]
            whole[:, :, top : top + piece, left : left + piece] = conv2d_weight(  # type: ignore[no-untyped-call]
                under, (channels, 1, piece, piece), gradient, stride, groups=channels
            )
    return whole
