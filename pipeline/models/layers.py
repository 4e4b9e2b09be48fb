"""The building block that the trunks share."""

from torch import nn


class ConvBatchNorm(nn.Sequential):
    """Convolution without bias, batch normalisation, and an activation if one is given.

    Padding is `dilation * (kernel - 1) / 2`, so that output (i, j) is centred on input (stride * i, stride * j).
    """

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
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False)
        self.add_module("conv", conv)
        self.add_module("bn", nn.BatchNorm2d(out_channels, eps=eps))
        if activation is not None:
            self.add_module("activation", activation)
