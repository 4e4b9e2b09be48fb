"""The dense CRF on this machine's GPU: TorchCRF as a refiner of NumPy arrays."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import CRFError, DeviceLostError
from pipeline.geometry import Geometry
from pipeline.logits import Floats, softmax, upsample
from pipeline.refine.crf.params import CRFParams
from pipeline.refine.crf.torch_crf import TorchCRF
from pipeline.refine.refinement import Labelling, Refinement
from pipeline.refine.tiles import TiledRefiner, tile_side

GPU_PIXELS = 2**21
"""Pixels of the pictures that share a GPU's lattices: about 2 GiB with 21 labels, three times as much for noise."""


class CudaCRF(TiledRefiner):
    """Refine pictures of one size together, and pictures larger than a tile one tile at a time.

    It can be made where there is no GPU: the device is opened by the first picture.
    """

    def __init__(self, params: CRFParams, prune: float, device: str = "cuda") -> None:
        """Choose the energy, the pruning as in DenseCRF, and the torch device."""
        self.params, self.prune, self.device = params, prune, device

    def __reduce__(self) -> tuple[type["CudaCRF"], tuple[CRFParams, float, str]]:
        """Pickle what it was made from: the device's memory stays where it is."""
        return type(self), (self.params, self.prune, self.device)

    def refine(
        self, images: Sequence[NDArray[np.uint8]], logits: Sequence[Floats], geometry: Geometry
    ) -> list[Refinement]:
        """Refine a batch; see Refiner. Raises CRFError where PyTorch sees no GPU, too."""
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            by_size[image.shape[:2]].append(index)
        refinements: dict[int, Refinement] = {}
        try:
            for (height, width), members in by_size.items():
                for batch in _parts(members, max(1, GPU_PIXELS // (height * width))):
                    done = self.refine_together([images[i] for i in batch], [logits[i] for i in batch], geometry)
                    refinements |= dict(zip(batch, done, strict=True))
        except torch.AcceleratorError as error:
            raise DeviceLostError(f"the GPU failed while it refined: {error}") from error
        return [refinements[index] for index in range(len(images))]

    def refine_together(
        self, images: Sequence[NDArray[np.uint8]], logits: Sequence[Floats], geometry: Geometry
    ) -> list[Refinement]:
        """Refine images (H, W, 3) of one size with their logits (C, h, w): whole, or where they are large in tiles.

        Grids of half pixels are upsampled on the host.
        """
        if max(images[0].shape[:2]) > tile_side(len(logits[0])) or geometry.origin != "aligned" or geometry.resize:
            return super().refine(images, logits, geometry)
        refined = self._crf.refine(
            torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(logits)), geometry.stride, self.prune
        )
        return [
            Refinement(
                mask=mask,
                confidence=float(confidence),
                pixels=pixels,
                class_confidence=class_confidence,
                kept=refined.kept,
            )
            for mask, confidence, pixels, class_confidence in zip(
                refined.masks.cpu().numpy(),
                refined.confidence.cpu().numpy(),
                refined.pixels.cpu().numpy(),
                refined.class_confidence.cpu().numpy(),
                strict=True,
            )
        ]

    def label(
        self, image: NDArray[np.uint8], logits: Floats, geometry: Geometry, top: int = 0, left: int = 0
    ) -> Labelling:
        """Label a window; see TiledRefiner. Only the mean field is computed on the GPU."""
        height, width = image.shape[:2]
        full = upsample(logits, height, width, geometry, top, left)  # (C, H, W)
        probabilities = softmax(full, out=full)
        peaks = probabilities.max(axis=(1, 2))
        kept = np.flatnonzero(peaks >= min(self.prune, peaks.max()))
        posterior = np.zeros(probabilities.shape, np.float32)
        batch = torch.tensor(image)[None], torch.tensor(probabilities[kept])[None]
        posterior[kept] = self._crf.posterior(*batch)[0].cpu().numpy()
        return Labelling.of(posterior)

    def margin(self, tile: int) -> int:
        """Give the reach of the widest kernel; see CRFParams.margin."""
        return self.params.margin(tile)

    def fingerprint(self) -> dict[str, Any]:
        """Name the parameters alone, as DenseCRF does: the masks agree."""
        return self.params.fingerprint()

    @cached_property
    def _crf(self) -> TorchCRF:
        if self.device == "cuda" and not torch.cuda.is_available():
            raise CRFError("the CRF on a GPU needs a CUDA device, and PyTorch sees none; use --refine.device cpu")
        return TorchCRF(self.params, self.device)


def _parts(members: list[int], size: int) -> Iterator[list[int]]:
    return (members[start : start + size] for start in range(0, len(members), size))
