"""How large the blocks are that travel between the stages: each costs the driver milliseconds, whatever it holds."""

import math

from pipeline.geometry import Geometry
from pipeline.runtime.plan import Plan

_PIXELS_A_BYTE = 4
"""Of a JPEG of good quality. A PNG has fewer, so that its logits are taken for larger than they are."""

_LEAST_BYTES = 256 * 1024
_BLOCKS, _BLOCKS_A_SEGMENTER = 64, 8
"""Blocks of images that a run has at least, and for each worker: so that all have as much to do."""


def logits_bytes(classes: int, geometry: Geometry, mean_bytes: int) -> int:
    """Estimate the bytes of an image's logits, float16 on the grid, from the mean of its encoded bytes."""
    side = math.isqrt(max(mean_bytes * _PIXELS_A_BYTE, 1))
    rows, columns = geometry.grid(side, side)
    return classes * rows * columns * 2


def block_bytes(images: int, mean_bytes: int, with_logits: int, plan: Plan) -> int:
    """Size blocks: as many images as a worker takes at once, but enough blocks for all that work.

    Args:
        images: to do.
        mean_bytes: of one of them, encoded.
        with_logits: bytes of its logits.
        plan: the workers. Where GPUs hand on logits, a block of these is what a core takes at once.
    """
    taken = plan.segmenter_batch * mean_bytes
    if plan.segmenter_gpus and not plan.gpus_refine:
        taken = max(taken, plan.refiner_batch * (mean_bytes + with_logits))
    enough = images * mean_bytes // max(_BLOCKS, _BLOCKS_A_SEGMENTER * plan.segmenters)
    return max(min(taken, enough), _LEAST_BYTES)
