"""Build MobileNetV2 as an atrous backbone at output stride 8 or 16 (arXiv 1801.04381, table 2 and section 6.3).

Strides below the output stride are removed. What follows a removed stride is dilated, but for the block that had it,
which still reads the grid before. The last 1x1 convolution, to 1280 channels, is left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import ConfigError
from pipeline.models.backbones.backbone import Backbone, BackboneOptions, FeatureRequest
from pipeline.models.layers import ConvBatchNorm


class Run(NamedTuple):
    """Describe equal blocks in a row; the stride is the first one's."""

    expansion: int
    channels: int
    blocks: int
    stride: int


RUNS = (
    Run(1, 16, 1, 1),
    Run(6, 24, 2, 2),
    Run(6, 32, 3, 2),
    Run(6, 64, 4, 2),
    Run(6, 96, 3, 1),
    Run(6, 160, 3, 2),
    Run(6, 320, 1, 1),
)
STEM_CHANNELS, FINEST_STRIDE = 32, 2


@dataclass(frozen=True, kw_only=True)
class MobileNetV2Style(BackboneOptions):
    """Say what trained weights disagree on, although their shapes are equal.

    pads: what a block surrounds with zeros, where its depthwise kernel reaches over the border: the channels that it
        filters (torchvision), or its own input (VainF), of whose zeros the first 1x1 makes something else.
    """

    pads: Literal["filtered", "input"]

    def __post_init__(self) -> None:
        if self.pads not in ("filtered", "input"):
            raise ConfigError(f"pads is {self.pads!r}; it must be 'filtered' or 'input'")


TORCHVISION_MOBILENET_V2 = MobileNetV2Style(pads="filtered")
VAINF_MOBILENET_V2 = MobileNetV2Style(pads="input")


class InvertedResidual(nn.Module):
    """Expand with 1x1, filter each channel, project with 1x1; the input is added where the shapes agree."""

    def __init__(self, in_channels: int, run: Run, *, stride: int, dilation: int, style: MobileNetV2Style) -> None:
        super().__init__()
        hidden = in_channels * run.expansion
        self.expand: nn.Module = nn.Identity()
        if run.expansion != 1:
            self.expand = ConvBatchNorm(in_channels, hidden, 1, activation=nn.ReLU6(inplace=True))
        self.depthwise = ConvBatchNorm(
            hidden, hidden, 3, stride=stride, dilation=dilation, groups=hidden, activation=nn.ReLU6(inplace=True)
        )
        self.project = ConvBatchNorm(hidden, run.channels, 1)
        self.residual = stride == 1 and in_channels == run.channels
        self._stride, self._reach, self._pads_input = stride, dilation, style.pads == "input"

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, h, w) -> (N, channels, h / stride, w / stride)."""
        y: Tensor = self.project(self._within_padding(x) if self._pads_input else self.depthwise(self.expand(x)))
        return x + y if self.residual else y

    def _within_padding(self, x: Tensor) -> Tensor:
        """Expand and filter a padded input; what the kernel gives is kept where it does not reach beyond."""
        before = -(-self._reach // self._stride)  # in points of the result
        front = before * self._stride
        y: Tensor = self.depthwise(self.expand(functional.pad(x, (front, self._reach, front, self._reach))))
        height, width = (before + (side - 1) // self._stride + 1 for side in x.shape[-2:])
        return y[..., before:height, before:width]


class MobileNetV2(Backbone):
    """Map (N, 3, H, W) -> (N, 320, h, w) at output stride 8 or 16, and the finer levels on the way."""

    levels: ClassVar = {8: {2: 16, 4: 24, 8: 320}, 16: {2: 16, 4: 24, 8: 32, 16: 320}}
    options_type: ClassVar = MobileNetV2Style

    def __init__(self, request: FeatureRequest, options: MobileNetV2Style) -> None:
        super().__init__(request, options)
        self.stem = ConvBatchNorm(3, STEM_CHANNELS, 3, stride=FINEST_STRIDE, activation=nn.ReLU6(inplace=True))
        blocks: list[nn.Module] = []
        channels, stride, dilation = STEM_CHANNELS, FINEST_STRIDE, 1
        self._ends: dict[int, int] = {}  # of each level, by its stride: one past its last block
        for run in RUNS:
            removed = run.stride if stride == request.strides[-1] else 1
            for index in range(run.blocks):
                step = run.stride // removed if index == 0 else 1
                rate = dilation if index == 0 else dilation * removed
                blocks.append(InvertedResidual(channels, run, stride=step, dilation=rate, style=options))
                channels = run.channels
            stride, dilation = stride * run.stride // removed, dilation * removed
            self._ends[stride] = len(blocks)
        self.blocks = nn.Sequential(*blocks)

    def stages(self) -> Iterable[tuple[int, Iterable[nn.Module]]]:
        """Return the stem with the first block at stride 2, and the runs of blocks down to each stride below."""
        begin = 0
        for stride, end in self._ends.items():
            yield stride, [*([self.stem] if begin == 0 else []), *list(self.blocks)[begin:end]]
            begin = end
