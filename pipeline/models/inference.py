"""Run a model over many pictures: equal sizes share a batch, large pictures go through in tiles."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.models.card import check_scales
from pipeline.models.deeplab import SegmentationModel
from pipeline.models.multiscale import fused_logits, valid_step
from pipeline.models.preprocessing import Image
from pipeline.models.ready import gains_from_bfloat16, ready
from pipeline.models.tiles import Span, spans

FLOAT16_MAX = float(np.finfo(np.float16).max)
# pixels that pictures sharing a pass may have together: a GPU wants many, a CPU slows down once it leaves its caches
GPU_PASS_PIXELS = 8 * 1024 * 1024
CPU_PASS_PIXELS = 512 * 512

Logits = NDArray[np.float16]


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Set how logits are computed.

    Args:
        scales: Image scales fused by maximum; none stands for those of the model's card.
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

    def tiling(self, model: SegmentationModel) -> "Tiling":
        """Return the scales and sizes that go with `model`. Raises ConfigError where the tile is too small for them."""
        scales = self.scales or model.card.scales
        extra = model.geometry.extra
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


@dataclass(frozen=True, slots=True)
class _Tile:
    image: int
    rows: Span
    columns: Span


class Predictor:
    """Run a model on a device over batches of pictures. `model` is a copy there that is ready to predict.

    Memory in use is that of one pass, beside the pictures themselves and their logits, whatever the pictures' size
    and number: a pass is one tile, or several small pictures of GPU_PASS_PIXELS or CPU_PASS_PIXELS together. Where that
    is more than the device has, passes are halved; a tile that is too large by itself is halved for its picture alone.

    Raises:
        ConfigError: the tile is too small for the scales.
    """

    def __init__(self, model: SegmentationModel, inference: Inference, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.tiling = inference.tiling(model)
        self.flip = inference.flip
        in_bfloat16 = inference.precision == "bfloat16" or (
            inference.precision == "auto" and gains_from_bfloat16(self.device)
        )
        self.dtype = torch.bfloat16 if in_bfloat16 else torch.float32
        self.model = ready(model, self.device, self.dtype)

    @torch.inference_mode()
    def logits(self, images: Sequence[Image]) -> list[Logits]:
        """Compute the logits of each picture at the output stride.

        Args:
            images: (H, W, 3) uint8 RGB each, of any sizes.

        Returns:
            for each picture (C, h, w) float16, h x w = model.geometry.grid(H, W); what float16 cannot hold saturates.

        Raises:
            ModelError: an image of another shape or dtype.
            torch.OutOfMemoryError: of several images one needs smaller tiles, or one image more than the smallest.
        """
        tile = self.tiling.tile
        while True:
            try:
                return self._grids(images, tile)
            except torch.OutOfMemoryError:
                tile = tile // 2 // self.tiling.step * self.tiling.step + 1
                if len(images) > 1 or tile - 1 <= self.tiling.overlap:
                    raise

    def _grids(self, images: Sequence[Image], tile: int) -> list[Logits]:
        geometry, classes = self.model.geometry, len(self.model.classes)
        grids = [
            np.empty((classes, *(geometry.points(side) for side in image.shape[:2])), np.float16) for image in images
        ]
        for batch in self._batches(images, tile):
            for piece, piece_logits in self._passes(images, batch):  # (C, h, w)
                _place(piece_logits, piece, grids[piece.image], geometry.stride)
        return grids

    def _passes(self, images: Sequence[Image], tiles: Sequence[_Tile]) -> Iterator[tuple[_Tile, Logits]]:
        """Compute the logits of each tile: in one pass, or in halves where the memory does not suffice."""
        try:
            yield from zip(tiles, self._run(images, tiles), strict=True)
            return
        except torch.OutOfMemoryError:
            if len(tiles) == 1:
                raise
        # only here is the memory of the failed pass free
        middle = len(tiles) // 2
        yield from self._passes(images, tiles[:middle])
        yield from self._passes(images, tiles[middle:])

    def _batches(self, images: Sequence[Image], tile: int) -> Iterator[list[_Tile]]:
        """Gather tiles of equal size, of one picture or of several, as many as one pass may hold."""
        by_size: dict[tuple[int, int], list[_Tile]] = defaultdict(list)
        for index, image in enumerate(images):
            for rows in self._spans(image.shape[0], tile):
                for columns in self._spans(image.shape[1], tile):
                    by_size[rows.size, columns.size].append(_Tile(index, rows, columns))
        budget = GPU_PASS_PIXELS if self.device.type == "cuda" else CPU_PASS_PIXELS
        for (height, width), tiles in by_size.items():
            count = max(1, budget // (height * width))
            for start in range(0, len(tiles), count):
                yield tiles[start : start + count]

    def _spans(self, pixels: int, tile: int) -> list[Span]:
        return spans(
            pixels, tile=tile, overlap=self.tiling.overlap, geometry=self.model.geometry, step=self.tiling.step
        )

    def _run(self, images: Sequence[Image], tiles: Sequence[_Tile]) -> Logits:
        size = (tiles[0].rows.size, tiles[0].columns.size)
        # zeros are the mean colour once preprocessed
        batch = torch.zeros((len(tiles), 3, *size)).contiguous(memory_format=torch.channels_last)  # (N, 3, H, W)
        for planes, tile in zip(batch, tiles, strict=True):
            window = images[tile.image][tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]
            planes[:, : window.shape[0], : window.shape[1]] = self.model.preprocess(window)
        fused = fused_logits(self._network, batch.to(self.device), self.tiling.scales, self.flip)  # (N, C, h, w)
        half: Logits = fused.clamp(-FLOAT16_MAX, FLOAT16_MAX).half().cpu().numpy()
        return half

    def _network(self, batch: Tensor) -> Tensor:
        result: Tensor = self.model(batch.to(self.dtype))
        return result.float()


def _place(tile_logits: Logits, tile: _Tile, grid: Logits, stride: int) -> None:
    """Copy the grid points that the tile decides into the picture's grid (C, h, w)."""
    rows, columns = tile.rows, tile.columns
    target = grid[:, rows.first : rows.last, columns.first : columns.last]
    top, left = rows.first - rows.start // stride, columns.first - columns.start // stride
    target[...] = tile_logits[:, top : top + target.shape[1], left : left + target.shape[2]]
