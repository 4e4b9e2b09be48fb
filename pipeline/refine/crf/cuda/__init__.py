"""The dense CRF on a GPU, in Triton kernels of its own: a refiner, and the mean field behind it."""

from pipeline.refine.crf.cuda.refiner import CudaCRF

__all__ = ["CudaCRF"]
