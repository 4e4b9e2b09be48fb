"""Run a model over many pictures: equal sizes share a batch, large pictures go through in tiles."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.models.inference import Inference
from pipeline.models.multiscale import fused_logits
from pipeline.models.network import Network
from pipeline.models.preprocessing import Image, Normaliser, check_image, resized
from pipeline.models.ready import gains_from_bfloat16, ready
from pipeline.models.tiles import Span, spans
from pipeline.models.transfer import Logits, OnDevice, transfer_to

FLOAT16_MAX = float(np.finfo(np.float16).max)
# pixels that pictures sharing a pass may have together: a GPU wants many, a CPU slows down once it leaves its caches
GPU_PASS_PIXELS = 8 * 1024 * 1024
CPU_PASS_PIXELS = 512 * 512


@dataclass(frozen=True, slots=True)
class _Tile:
    image: int
    rows: Span
    columns: Span


class Predictor:
    """Run a model on a device over batches of pictures. `model` is a copy there that is ready to predict.

    `logits` does it all. Its three steps stand by themselves, so that threads of their own can do them where the device
    works beside the host's cores, as `overlaps` says: one batch is brought there and another's logits are fetched while
    a third is computed.

    Memory in use is that of one pass, beside the pictures themselves and their logits, whatever the pictures' size
    and number: a pass is one tile, or several small pictures of GPU_PASS_PIXELS or CPU_PASS_PIXELS together. Where that
    is more than the device has, passes are halved; a tile that is too large by itself is halved for its picture alone.

    Raises:
        ConfigError: the tile is too small for the scales.
    """

    def __init__(self, model: Network, inference: Inference, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.tiling = inference.tiling(model)
        self.flip = inference.flip
        in_bfloat16 = inference.precision == "bfloat16" or (
            inference.precision == "auto" and gains_from_bfloat16(self.device)
        )
        self.dtype = torch.bfloat16 if in_bfloat16 else torch.float32
        self.model = ready(model, self.device, self.dtype)
        self._normalise = Normaliser(model.card.preprocessing, self.device)
        self._transfer = transfer_to(self.device)

    @property
    def overlaps(self) -> bool:
        """Tell whether the device works beside the host's cores, so that overlapping the steps saves time."""
        return self.device.type != "cpu"

    @property
    def pass_pixels(self) -> int:
        """Return the pixels that pictures sharing a pass may have together."""
        return GPU_PASS_PIXELS if self.overlaps else CPU_PASS_PIXELS

    def logits(self, images: Sequence[Image]) -> list[Logits]:
        """Compute the logits of each picture at the output stride.

        Args:
            images: (H, W, 3) uint8 RGB each, of any sizes.

        Returns:
            for each picture (C, h, w) float16, h x w = model.geometry.grid(H, W); what float16 cannot hold saturates.

        Raises:
            ModelError: as `upload`.
            torch.OutOfMemoryError: of several images one needs smaller tiles, or one image more than the smallest.
        """
        return self.download(self.compute(self.upload(images)))

    def upload(self, images: Sequence[Image]) -> list[OnDevice]:
        """Bring pictures (H, W, 3) uint8 RGB to the device.

        Raises:
            ModelError: an image of another shape or dtype, or too long for its width to be resized for the network.
        """
        for image in images:
            check_image(image)
        return self._transfer.upload([resized(image, self.model.geometry.resize) for image in images])

    @torch.inference_mode()
    def compute(self, pictures: Sequence[OnDevice]) -> list[OnDevice]:
        """Compute the logits of pictures that `upload` gave, and leave them on the device; see `logits`."""
        images = self._transfer.arrived(pictures)
        tile = self.tiling.tile
        while True:
            try:
                return self._transfer.leaving(self._grids(images, tile))
            except torch.OutOfMemoryError:
                extra = self.model.geometry.extra
                tile = tile // 2 // self.tiling.step * self.tiling.step + extra
                if len(images) > 1 or tile - extra <= self.tiling.overlap:
                    raise

    def download(self, grids: Sequence[OnDevice]) -> list[Logits]:
        """Fetch the logits that `compute` gave."""
        return self._transfer.download(grids)

    def _grids(self, images: Sequence[Tensor], tile: int) -> list[Tensor]:
        geometry, classes = self.model.geometry, len(self.model.classes)
        grids = [
            torch.empty(
                (classes, *(geometry.points(side) for side in image.shape[:2])), dtype=torch.float16, device=self.device
            )
            for image in images
        ]
        for batch in self._batches(images, tile):
            for piece, piece_logits in self._passes(images, batch):  # (C, h, w)
                _place(piece_logits, piece, grids[piece.image], geometry.stride)
        return grids

    def _passes(self, images: Sequence[Tensor], tiles: Sequence[_Tile]) -> Iterator[tuple[_Tile, Tensor]]:
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

    def _batches(self, images: Sequence[Tensor], tile: int) -> Iterator[list[_Tile]]:
        """Gather tiles of equal size, of one picture or of several, as many as one pass may hold."""
        by_size: dict[tuple[int, int], list[_Tile]] = defaultdict(list)
        for index, image in enumerate(images):
            for rows in self._spans(image.shape[0], tile):
                for columns in self._spans(image.shape[1], tile):
                    by_size[rows.size, columns.size].append(_Tile(index, rows, columns))
        for (height, width), tiles in by_size.items():
            count = max(1, self.pass_pixels // (height * width))
            for start in range(0, len(tiles), count):
                yield tiles[start : start + count]

    def _spans(self, pixels: int, tile: int) -> list[Span]:
        return spans(
            pixels, tile=tile, overlap=self.tiling.overlap, geometry=self.model.geometry, step=self.tiling.step
        )

    def _run(self, images: Sequence[Tensor], tiles: Sequence[_Tile]) -> Tensor:
        """Compute the logits of tiles of one size, (N, C, h, w) float16; they are normalised and padded here."""
        size = (tiles[0].rows.size, tiles[0].columns.size)
        batch = torch.zeros((len(tiles), 3, *size), device=self.device)  # zeros are the mean colour once preprocessed
        batch = batch.contiguous(memory_format=torch.channels_last)  # (N, 3, H, W)
        for planes, tile in zip(batch, tiles, strict=True):
            window = images[tile.image][tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]
            planes[:, : window.shape[0], : window.shape[1]] = self._normalise(window)
        fusion = self.model.card.fusion
        fused = fused_logits(self._network, batch, self.tiling.scales, self.flip, fusion)  # (N, C, h, w)
        return fused.clamp(-FLOAT16_MAX, FLOAT16_MAX).half()

    def _network(self, batch: Tensor) -> Tensor:
        result: Tensor = self.model(batch.to(self.dtype))
        return result.float()


def _place(tile_logits: Tensor, tile: _Tile, grid: Tensor, stride: int) -> None:
    """Copy the grid points that the tile decides into the picture's grid (C, h, w)."""
    rows, columns = tile.rows, tile.columns
    target = grid[:, rows.first : rows.last, columns.first : columns.last]
    top, left = rows.first - rows.start // stride, columns.first - columns.start // stride
    target.copy_(tile_logits[:, top : top + target.shape[1], left : left + target.shape[2]])
