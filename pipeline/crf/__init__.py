"""The dense CRF: its parameters, its backends, and the tiled refinement of whole pictures."""

from pipeline.crf.dense_crf import PRUNE, DenseCRF
from pipeline.crf.params import CRFParams
from pipeline.crf.refine import Refinement, refine

__all__ = ["PRUNE", "CRFParams", "DenseCRF", "Refinement", "refine"]
