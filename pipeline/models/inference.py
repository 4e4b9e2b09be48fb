"""Settings of how a network is run over pictures: scales, tiles and precision."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.errors import ConfigError
from pipeline.geometry import LONGEST
from pipeline.models.scales import SINGLE_SCALE, check_scales, valid_step

if TYPE_CHECKING:  # the settings alone need no torch
    from pipeline.models.network import Network


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Set how logits are computed.

    Args:
        scales: Image scales, fused as the model's card says; none stands for those of the card.
        flip: Also run the mirrored picture and take the mean; twice the work.
        tile: Pictures with a longer side, in pixels, are run in overlapping tiles of at most this side.
        overlap: Pixels that neighbouring tiles share at least.
        precision: auto is bfloat16 where the device computes faster in it, float32 elsewhere.
    """

    scales: tuple[float, ...] | None = None
    flip: bool = False
    tile: int = 1025
    overlap: int = 256
    precision: Literal["auto", "bfloat16", "float32"] = "auto"

    def __post_init__(self) -> None:
        if self.scales is not None:
            check_scales(self.scales)
        if self.overlap < 0 or self.tile < 2 * self.overlap + 1:
            raise ConfigError(
                f"tile is {self.tile} and overlap {self.overlap} pixels; a tile must be more than twice its overlap"
            )
        if self.precision not in ("auto", "bfloat16", "float32"):
            raise ConfigError(f"precision is {self.precision!r}; it must be 'auto', 'bfloat16' or 'float32'")

    def tiling(self, model: "Network") -> "Tiling":
        """Return the scales and sizes that go with `model`. Raises ConfigError where the tile is too small for them."""
        scales, geometry = self.scales or model.card.scales, model.geometry
        if scales != SINGLE_SCALE and geometry.origin != "aligned":
            raise ConfigError(f"{model.card.name} runs at one scale alone, not at {scales}: leave inference.scales out")
        if geometry.resize is not None:  # which bounds what it takes; as a whole, as in its own framework
            return Tiling(scales=scales, step=model.step, tile=LONGEST, overlap=LONGEST)
        extra = geometry.extra
        step = valid_step(model.step, scales)
        tile = (self.tile - extra) // step * step + extra
        overlap = -(-self.overlap // step) * step
        if tile - extra <= overlap:
            raise ConfigError(
                f"tiles of {self.tile} pixels with an overlap of {self.overlap} are too small for the scales "
                f"{scales}, whose sizes go in steps of {step} pixels; use larger tiles"
            )
        return Tiling(scales=scales, step=step, tile=tile, overlap=overlap)


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Hold sides, in pixels: of tiles, valid sizes for `step`, at most `tile`, which share at least `overlap`."""

    scales: tuple[float, ...]
    step: int
    tile: int
    overlap: int
