"""From the network's logits to a mask: refiners by name, the dense CRF and the plain argmax among them."""

from pipeline.refine.argmax import Argmax
from pipeline.refine.refinement import Labelling, Refinement
from pipeline.refine.refiner import GpuRefiner, Refiner, noted
from pipeline.refine.registry import RefineConfig, RefineDevice, make_refiner
from pipeline.refine.tiles import TiledRefiner, refine_in_tiles

__all__ = [
    "Argmax",
    "GpuRefiner",
    "Labelling",
    "RefineConfig",
    "RefineDevice",
    "Refinement",
    "Refiner",
    "TiledRefiner",
    "make_refiner",
    "noted",
    "refine_in_tiles",
]
