"""Masks of pictures of any size, tile by tile: memory is bounded by the tile and not by the picture."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CRFError
from pipeline.geometry import Geometry
from pipeline.logits import Floats, all_finite
from pipeline.refine.refinement import Labelling, Refinement
from pipeline.refine.refiner import Refiner

if TYPE_CHECKING:
    from torch import Tensor

MAX_TILE = 1024
"""Pixels on a side of a tile, margins included, up to 64 labels."""

TILE_BYTES = 256 * 2**20
"""Above that, bytes of one tile's probabilities, labels * side^2 * 4; the CRF needs about six times as much."""

PROCESS_MEMORY = 2**28
"""Bytes of a process before its first picture."""

TILE_FACTOR = 10
"""Peak memory of the CRF on photographs, in multiples of a tile's probabilities."""


class TiledRefiner(Refiner):
    """Refine a picture window by window. A refiner of this kind says how a window is labelled, and its fingerprint."""

    @abstractmethod
    def label(
        self, image: NDArray[np.uint8], logits: Floats, geometry: Geometry, top: int = 0, left: int = 0
    ) -> Labelling:
        """Label a window of a picture.

        Args:
            image: (H, W, 3) uint8 RGB: the window, or all of the picture.
            logits: (C, h, w) float of the whole picture, C <= 256, finite; `upsample` of pipeline.logits takes the same
                arguments.
            geometry: of the grid in the picture itself.
            top: the window's first row in the picture, in pixels.
            left: the window's first column in the picture, in pixels.
        """

    def margin(self, tile: int) -> int:  # noqa: ARG002
        """Give the context, in pixels, that a tile of `tile` pixels a side needs around its core: below tile / 2."""
        return 0

    def refine(
        self, images: Sequence[NDArray[np.uint8]], logits: Sequence[Floats], geometry: Geometry
    ) -> list[Refinement]:
        """Refine pictures one by one; see Refiner."""
        return [refine_in_tiles(image, grid, geometry, self) for image, grid in zip(images, logits, strict=True)]

    def memory(self, labels: int) -> int:
        """Estimate the bytes at the peak from one tile's probabilities, generously: as for the dense CRF."""
        return PROCESS_MEMORY + TILE_FACTOR * 4 * labels * tile_side(labels) ** 2


def tile_side(labels: int) -> int:
    """Give the default side of a tile in pixels: MAX_TILE, less where the labels would exceed TILE_BYTES."""
    return min(MAX_TILE, math.isqrt(TILE_BYTES // (4 * labels)))


def refine_in_tiles(
    image: NDArray[np.uint8],
    logits: Floats,
    geometry: Geometry,
    refiner: TiledRefiner,
    tile: int | None = None,
    margin: int | None = None,
) -> Refinement:
    """Refine one picture.

    A picture of at most `tile` pixels a side is one window. A larger one is cut into tiles that overlap by `margin` on
    each inner side; the labels in the margins are discarded.

    Args:
        image: (H, W, 3) uint8 RGB.
        logits: (C, h, w) float, h x w = geometry.grid(H, W), C <= 256.
        geometry: of the grid in the picture.
        refiner: labels a window.
        tile: side of a tile in pixels, margins included; by default tile_side(C).
        margin: pixels of context around a tile's core; by default the refiner's for such a tile.

    Raises:
        CRFError: wrong shapes, logits that are not finite, or a margin that leaves no core.
    """
    check_sizes(image, logits, geometry)
    check_finite(logits)
    labels, (height, width) = logits.shape[0], image.shape[:2]
    placed = geometry.over(height, width)
    tile = tile_side(labels) if tile is None else tile
    margin = refiner.margin(tile) if margin is None else margin
    if margin < 0 or tile <= 2 * margin:
        raise CRFError(f"a tile of {tile} pixels has no core inside margins of {margin}; tile must exceed 2 * margin")
    mask, posterior_map = np.empty((height, width), np.uint8), np.empty((height, width), np.uint8)
    pixels = np.zeros(labels, np.int64)
    posterior_sum = np.zeros(labels, np.float64)
    kept = 0
    for y in spans(height, tile, margin):
        for x in spans(width, tile, margin):
            window = refiner.label(image[y.low : y.high, x.low : x.high], logits, placed, y.low, x.low)
            kept = max(kept, window.kept)
            core = np.s_[y.start - y.low : y.stop - y.low, x.start - x.low : x.stop - x.low]
            best, posterior = window.best[core], window.posterior[core]
            mask[y.start : y.stop, x.start : x.stop] = best
            posterior_map[y.start : y.stop, x.start : x.stop] = np.rint(255 * posterior).clip(0, 255)
            pixels += np.bincount(best.ravel(), minlength=labels)
            posterior_sum += np.bincount(best.ravel(), weights=posterior.ravel(), minlength=labels)
    return Refinement(
        mask=mask,
        posterior=posterior_map,
        confidence=float(posterior_sum.sum() / mask.size),
        pixels=pixels,
        class_confidence=(posterior_sum / np.maximum(pixels, 1)).astype(np.float32),
        kept=kept,
    )


@dataclass(frozen=True)
class Span:
    """Place one side of a tile, in pixels: the core [start, stop) in the window [low, high) that the refiner sees."""

    start: int
    stop: int
    low: int
    high: int


def spans(length: int, tile: int, margin: int) -> Iterator[Span]:
    """Cut [0, length) pixels into cores of about equal length, each with its margins in a window of at most `tile`."""
    count = 1 if length <= tile else -(-length // (tile - 2 * margin))
    for index in range(count):
        start, stop = length * index // count, length * (index + 1) // count
        yield Span(start, stop, max(start - margin, 0), min(stop + margin, length))


def check_sizes(image: "NDArray[np.uint8] | Tensor", logits: "Floats | Tensor", geometry: Geometry) -> None:
    """Raise CRFError unless a picture is (H, W, 3) uint8 and its logits are floats on its grid, of 1 to 256 labels."""
    if image.ndim != 3 or image.shape[2] != 3 or not str(image.dtype).endswith("uint8") or 0 in image.shape:
        raise CRFError(f"refine takes an image (H, W, 3) uint8, not {tuple(image.shape)} {image.dtype}")
    height, width = image.shape[:2]
    grid = geometry.grid(height, width)
    shape_is_right = logits.ndim == 3 and tuple(logits.shape[1:]) == grid and 1 <= logits.shape[0] <= 256
    is_float = logits.dtype.kind == "f" if isinstance(logits, np.ndarray) else logits.dtype.is_floating_point
    if not shape_is_right or not is_float:
        raise CRFError(
            f"a {height}x{width} image at stride {geometry.stride} takes logits (C, {grid[0]}, {grid[1]}) float of "
            f"1 to 256 labels, not {tuple(logits.shape)} {logits.dtype}"
        )


def check_finite(logits: Floats) -> None:
    """Raise CRFError, with the place, where one of the logits (C, h, w) is not finite in float32."""
    if not all_finite(logits):
        label, row, column = (int(i) for i in np.argwhere(~(np.abs(logits) <= np.finfo(np.float32).max))[0])
        raise CRFError(
            f"the logit of label {label} at grid row {row}, column {column} is {logits[label, row, column]}; "
            "the network's output must be finite in float32"
        )
