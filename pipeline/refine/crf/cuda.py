"""The CRF's backend `cuda`: TorchCRF on this machine's GPU, for NumPy arrays."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import CRFError, DeviceLostError
from pipeline.logits import Floats
from pipeline.refine.crf.params import CRFParams
from pipeline.refine.crf.torch_crf import TorchCRF
from pipeline.refine.refinement import Refinement


class CudaCRF:
    """A TorchCRF on this machine's GPU that takes and gives NumPy arrays; see DenseCRF."""

    def __init__(self, params: CRFParams, prune: float, device: str = "cuda") -> None:
        """Raise CRFError where PyTorch sees no GPU."""
        if device == "cuda" and not torch.cuda.is_available():
            raise CRFError("the CRF backend 'cuda' needs a CUDA device, and PyTorch sees none; choose native")
        self._crf = TorchCRF(params, device)
        self._prune = prune

    def posterior(self, image: NDArray[np.uint8], probabilities: Floats) -> NDArray[np.float32]:
        """Posterior (C, H, W) float32 of image (H, W, 3) and probabilities (C, H, W)."""
        peaks = probabilities.max(axis=(1, 2))
        kept = np.flatnonzero(peaks >= min(self._prune, peaks.max()))
        found = self._crf.posterior(torch.tensor(image)[None], torch.tensor(probabilities[kept])[None])
        posterior = np.zeros(probabilities.shape, np.float32)
        posterior[kept] = found[0].cpu().numpy()
        return posterior

    def refine_together(
        self, images: Sequence[NDArray[np.uint8]], scores: Sequence[Floats], stride: int
    ) -> list[Refinement]:
        """Refinements of images (H, W, 3) of one size and their scores (C, h, w); see TorchCRF.refine."""
        try:
            found = self._crf.refine(
                torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(scores)), stride, self._prune
            )
        except torch.AcceleratorError as error:
            raise DeviceLostError(f"the GPU failed while it refined: {error}") from error
        return [
            Refinement(
                mask=mask,
                confidence=float(confidence),
                pixels=pixels,
                class_confidence=class_confidence,
                kept=found.kept,
            )
            for mask, confidence, pixels, class_confidence in zip(
                found.masks.cpu().numpy(),
                found.confidence.cpu().numpy(),
                found.pixels.cpu().numpy(),
                found.class_confidence.cpu().numpy(),
                strict=True,
            )
        ]
