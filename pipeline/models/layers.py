"""Build what the backbones and heads share: convolutions with batch normalisation, and atrous depthwise ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


class AtrousDepthwise(nn.Conv2d):
    """Convolve each channel by itself, at stride 1 and perhaps atrous.

    At rate d a picture falls into d x d phases that do not see each other, and on each of them the convolution is an
    ordinary one. That is how it is computed here where the CPU library has no vector code for atrous ones: above rate
    2, and for gradients.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Filter each channel: (N, C, H, W) -> (N, C, H, W)."""
        rate = self.dilation[0]
        is_fast = rate == 1 or (rate == 2 and not torch.is_grad_enabled())
        if is_fast or input.device.type != "cpu":
            return super().forward(input)
        count, channels, height, width = input.shape
        rows, columns = -(-height // rate), -(-width // rate)
        padded = functional.pad(input, (0, rate * columns - width, 0, rate * rows - height)).permute(0, 2, 3, 1)
        cells = padded.reshape(count, rows, rate, columns, rate, channels)  # from (N, d rows, d columns, C)
        phases = cells.permute(0, 2, 4, 5, 1, 3).flatten(0, 2)  # (N d d, C, rows, columns)
        margin = (int(self.padding[0]) // rate, int(self.padding[1]) // rate)
        filtered = functional.conv2d(phases, self.weight, self.bias, 1, margin, 1, self.groups)  # the same shape
        cells = filtered.reshape(count, rate, rate, channels, rows, columns).permute(0, 4, 1, 5, 2, 3)
        whole = cells.reshape(count, rate * rows, rate * columns, channels)  # from (N, rows, d, columns, d, C)
        return whole[:, :height, :width].contiguous().permute(0, 3, 1, 2)


class ConvBatchNorm(nn.Sequential):
    """Chain a convolution without bias, batch normalisation, and an activation if one is given.

    Padding is `dilation * (kernel - 1) / 2`, so that output (i, j) is centred on input (stride * i, stride * j).
    """

    conv: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        eps: float = 1e-5,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        kind = AtrousDepthwise if stride == 1 and groups == in_channels == out_channels else nn.Conv2d
        conv = kind(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False)
        self.add_module("conv", conv)
        self.add_module("bn", nn.BatchNorm2d(out_channels, eps=eps))
        if activation is not None:
            self.add_module("activation", activation)

    def fold(self) -> None:
        """Put the batch normalisation, of evaluation mode, into the convolution's weights and bias."""
        self.conv = fuse_conv_bn_eval(self.conv, self.bn)
        del self.bn
