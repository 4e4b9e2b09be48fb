"""Build VGG-16 as an atrous backbone at output stride 8 (section 4.1 of the paper, and the authors' prototxt).

The last two pools lose their stride, the last three convolutions are dilated by 2 instead, and every pool is 3x3 with
padding 1, so that its output stays centred on its input.
"""

from collections.abc import Iterable
from typing import ClassVar

from torch import nn

from pipeline.models.backbones.backbone import Backbone, FeatureRequest

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = (2, 2, 3, 3, 3)
STRIDED_POOLS = 3


class VGG16(Backbone):
    """Map (N, 3, H, W) -> (N, 512, h, w) at output stride 8.

    Where the head asks for an average pool it ends with pool5a, as LargeFOV does and ASPP does not.
    """

    levels: ClassVar = {8: {2: 64, 4: 128, 8: 512}}
    fc_channels: ClassVar = 1024
    released_crf: ClassVar = {
        "gaussian_weight": 2,
        "gaussian_xy": 2,
        "bilateral_weight": 4,
        "bilateral_xy": 65,
        "bilateral_rgb": 3,
    }

    def __init__(self, request: FeatureRequest, options: None = None) -> None:
        super().__init__(request, options)
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
        if request.average_pool:
            self.add_module("pool5a", nn.AvgPool2d(3, stride=1, padding=1))

    def stages(self) -> Iterable[tuple[int, Iterable[nn.Module]]]:
        """Return the layers up to pool1 at stride 2, up to pool2 at stride 4, and the rest at stride 8."""
        layers = dict(self.named_children())
        names = list(layers)
        first, second = names.index("pool1") + 1, names.index("pool2") + 1
        ordered = list(layers.values())
        return (2, ordered[:first]), (4, ordered[first:second]), (8, ordered[second:])
