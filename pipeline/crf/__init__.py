"""The dense CRF: its parameters, its backends, and the tiled refinement of whole pictures."""

from pipeline.crf.dense_crf import PRUNE, DenseCRF
from pipeline.crf.params import CRFParams
from pipeline.crf.refine import refine, refine_batch
from pipeline.crf.refinement import Refinement

__all__ = ["PRUNE", "CRFParams", "DenseCRF", "Refinement", "refine", "refine_batch"]
