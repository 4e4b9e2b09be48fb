"""From the network's logits to a mask: the dense CRF, or none, tile by tile."""

from pipeline.refine.refinement import Refinement
from pipeline.refine.tiled import refine, refine_batch

__all__ = ["Refinement", "refine", "refine_batch"]
