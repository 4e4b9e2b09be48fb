"""The dense CRF: its parameters and its backends."""

from pipeline.refine.crf.dense_crf import PRUNE, DenseCRF, check_prune
from pipeline.refine.crf.params import CRFParams

__all__ = ["PRUNE", "CRFParams", "DenseCRF", "check_prune"]
