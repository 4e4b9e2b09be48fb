"""VGG-16 as an atrous trunk at output stride 8 (section 4.1 of the paper, and the authors' prototxt).

The last two pools lose their stride, the last three convolutions are dilated by 2 instead, and every pool is 3x3 with
padding 1, so that its output stays centred on its input.
"""

from torch import nn

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = (2, 2, 3, 3, 3)
STRIDED_POOLS = 3


class VGG16(nn.Sequential):
    """(N, 3, H, W) -> (N, 512, h, w) at output stride 8.

    average_pool: end with pool5a, a 3x3 average, as LargeFOV does and ASPP does not.
    """

    channels = 512

    def __init__(self, *, average_pool: bool) -> None:
        super().__init__()
        in_channels = 3
        for stage, (channels, count) in enumerate(zip(CHANNELS, CONVOLUTIONS, strict=True), start=1):
            dilation = 2 if stage == len(CHANNELS) else 1
            for index in range(1, count + 1):
                conv = nn.Conv2d(in_channels, channels, 3, padding=dilation, dilation=dilation)
                # without batch normalisation, torch's default would let the signal fade away within 13 layers
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                self.add_module(f"conv{stage}_{index}", conv)
                self.add_module(f"relu{stage}_{index}", nn.ReLU(inplace=True))
                in_channels = channels
            stride = 2 if stage <= STRIDED_POOLS else 1
            self.add_module(f"pool{stage}", nn.MaxPool2d(3, stride, padding=1, ceil_mode=True))
        if average_pool:
            self.add_module("pool5a", nn.AvgPool2d(3, stride=1, padding=1))
