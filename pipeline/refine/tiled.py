"""From the network's score grid to a mask, tile by tile, with memory bounded by the tile and not by the picture."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CRFError
from pipeline.logits import Floats, best_label, grid_size, softmax, upsample
from pipeline.refine.crf.dense_crf import DenseCRF
from pipeline.refine.crf.params import CRFParams
from pipeline.refine.refinement import Labelling, Refinement

MAX_TILE = 1024
"""Pixels on a side of a tile, margins included, up to 64 labels."""

TILE_BYTES = 256 * 2**20
"""Above that, bytes of one tile's probabilities, labels * side^2 * 4; the CRF needs about six times as much."""

GPU_PIXELS = 2**21
"""Pixels of the pictures that share a GPU's lattices: about 2 GiB with 21 labels, three times as much for noise."""


def tile_side(labels: int) -> int:
    """Default side of a tile in pixels: MAX_TILE, less where the labels would exceed TILE_BYTES."""
    return min(MAX_TILE, math.isqrt(TILE_BYTES // (4 * labels)))


def tile_margin(params: CRFParams, tile: int) -> int:
    """Default margin in pixels: two standard deviations of the widest kernel in use, at most a quarter of the tile."""
    reach = max(
        params.gaussian_xy if params.gaussian_weight > 0 else 0,
        params.bilateral_xy if params.bilateral_weight > 0 else 0,
    )
    return min(math.ceil(2 * reach), tile // 4)


def refine_batch(
    images: Sequence[NDArray[np.uint8]], scores: Sequence[Floats], stride: int, crf: DenseCRF | None
) -> list[Refinement]:
    """Refine several pictures: on a GPU those of one size together, otherwise one by one. See `refine`."""
    if crf is None or crf.backend != "cuda":
        return [refine(image, grid, stride, crf) for image, grid in zip(images, scores, strict=True)]
    by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        by_size[image.shape].append(index)
    found: dict[int, Refinement] = {}
    for (height, width, _), members in by_size.items():
        if max(height, width) > tile_side(len(scores[members[0]])):
            found |= {i: refine(images[i], scores[i], stride, crf) for i in members}
            continue
        together = max(1, GPU_PIXELS // (height * width))
        for start in range(0, len(members), together):
            some = members[start : start + together]
            done = crf.refine_together([images[i] for i in some], [scores[i] for i in some], stride)
            found |= dict(zip(some, done, strict=True))
    return [found[index] for index in range(len(images))]


def refine(
    image: NDArray[np.uint8],
    scores: Floats,
    stride: int,
    crf: DenseCRF | None,
    tile: int | None = None,
    margin: int | None = None,
) -> Refinement:
    """Upsample the scores, turn them into probabilities, refine them with the CRF and take the best label.

    A picture of at most `tile` pixels a side is one exact CRF. A larger one is cut into tiles that overlap by `margin`
    on each inner side; what the margins say is discarded.

    Args:
        image: (H, W, 3) uint8 RGB.
        scores: (C, h, w) float logits, h x w = grid_size of H and W, C <= 256.
        stride: output stride of the scores, in pixels.
        crf: the CRF, or None for the plain argmax of the upsampled scores.
        tile: side of a tile in pixels, margins included; by default tile_side(C).
        margin: pixels of context around a tile's core; by default tile_margin, and 0 without a CRF.

    Raises:
        CRFError: wrong shapes, scores that are not finite, or a margin that leaves no core.
    """
    _check(image, scores, stride)
    labels, (height, width) = scores.shape[0], image.shape[:2]
    tile = tile_side(labels) if tile is None else tile
    if crf is None:
        margin = 0
    elif margin is None:
        margin = tile_margin(crf.params, tile)
    if margin < 0 or tile <= 2 * margin:
        raise CRFError(f"a tile of {tile} pixels has no core inside margins of {margin}; tile must exceed 2 * margin")
    mask = np.empty((height, width), np.uint8)
    pixels = np.zeros(labels, np.int64)
    posterior_sum = np.zeros(labels, np.float64)
    kept = 0
    for y in _spans(height, tile, margin):
        for x in _spans(width, tile, margin):
            if crf is not None:
                found = crf.label(image[y.low : y.high, x.low : x.high], scores, stride, y.low, x.low)
            else:
                logits = upsample(scores, y.high - y.low, x.high - x.low, stride, y.low, x.low)  # (C, tile, tile)
                found = Labelling(*best_label(softmax(logits, out=logits)), kept=labels)
            kept = max(kept, found.kept)
            core = np.s_[y.start - y.low : y.stop - y.low, x.start - x.low : x.stop - x.low]
            best, winning = found.best[core], found.posterior[core]
            mask[y.start : y.stop, x.start : x.stop] = best
            pixels += np.bincount(best.ravel(), minlength=labels)
            posterior_sum += np.bincount(best.ravel(), weights=winning.ravel(), minlength=labels)
    return Refinement(
        mask=mask,
        confidence=float(posterior_sum.sum() / mask.size),
        pixels=pixels,
        class_confidence=(posterior_sum / np.maximum(pixels, 1)).astype(np.float32),
        kept=kept,
    )


@dataclass(frozen=True)
class _Span:
    """One side of a tile, in pixels: the core [start, stop) inside the window [low, high) that the CRF sees."""

    start: int
    stop: int
    low: int
    high: int


def _spans(length: int, tile: int, margin: int) -> Iterator[_Span]:
    """Cores of about equal length that cover [0, length), each with its margins in a window of at most `tile`."""
    count = 1 if length <= tile else -(-length // (tile - 2 * margin))
    for index in range(count):
        start, stop = length * index // count, length * (index + 1) // count
        yield _Span(start, stop, max(start - margin, 0), min(stop + margin, length))


def _check(image: NDArray[np.uint8], scores: Floats, stride: int) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise CRFError(f"refine takes an image (H, W, 3) uint8, not {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    grid = (grid_size(height, stride), grid_size(width, stride))
    if scores.ndim != 3 or scores.shape[1:] != grid or not 1 <= scores.shape[0] <= 256:
        raise CRFError(
            f"a {height}x{width} image at stride {stride} takes scores (C, {grid[0]}, {grid[1]}) of 1 to 256 labels, "
            f"not {scores.shape}"
        )
    if not np.isfinite(scores).all():
        label, row, column = (int(i) for i in np.argwhere(~np.isfinite(scores))[0])
        raise CRFError(
            f"the score of label {label} at grid row {row}, column {column} is {scores[label, row, column]}; "
            "the network's output must be finite"
        )
