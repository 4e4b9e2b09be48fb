"""Build what the backbones and heads share: convolutions with batch normalisation."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.models.depthwise import Depthwise


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
        kind = Depthwise if groups == in_channels == out_channels else nn.Conv2d
        conv = kind(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False)
        self.add_module("conv", conv)
        self.add_module("bn", nn.BatchNorm2d(out_channels, eps=eps))
        if activation is not None:
            self.add_module("activation", activation)

    def fold(self) -> None:
        """Put the batch normalisation, of evaluation mode, into the convolution's weights and bias."""
        self.conv = fuse_conv_bn_eval(self.conv, self.bn)
        del self.bn
