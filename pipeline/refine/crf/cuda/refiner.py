"""The dense CRF on this process' GPU, as a refiner."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import CRFError, DeviceLostError
from pipeline.geometry import Geometry
from pipeline.logits import Floats, native_floats
from pipeline.refine.crf.cuda.window import windows
from pipeline.refine.crf.params import CRFParams
from pipeline.refine.refinement import Refinement
from pipeline.refine.refiner import GpuRefiner
from pipeline.refine.tiles import PROCESS_MEMORY, check_finite, check_sizes, tile_side

if TYPE_CHECKING:
    from pipeline.refine.crf.cuda.mean_field import MeanField


class CudaCRF(GpuRefiner):
    """Refine pictures one at a time, so that all of a picture stays in the GPU's cache, and large ones in tiles.

    It can be made where there is neither a GPU nor Triton: the device is opened by the first picture.
    """

    def __init__(self, params: CRFParams, prune: float, device: str = "cuda") -> None:
        """Choose the energy, the pruning before the first step as in DenseCRF, and the torch device.

        On "cpu" Triton's interpreter runs the kernels, where TRITON_INTERPRET was 1 before triton was imported.
        """
        self.params, self.prune, self.device = params, prune, device

    def __reduce__(self) -> tuple[type["CudaCRF"], tuple[CRFParams, float, str]]:
        """Pickle what it was made from: the device's memory stays where it is."""
        return type(self), (self.params, self.prune, self.device)

    def refine(
        self, images: Sequence[NDArray[np.uint8] | Tensor], logits: Sequence[Floats | Tensor], geometry: Geometry
    ) -> list[Refinement]:
        """Refine a batch; see GpuRefiner."""
        try:
            with torch.inference_mode():
                return [self._refine(image, grid, geometry) for image, grid in zip(images, logits, strict=True)]
        except torch.AcceleratorError as error:
            raise DeviceLostError(f"the GPU failed while it refined: {error}") from error
        except RuntimeError as error:
            if "Triton Error [CUDA]" not in str(error):
                raise
            raise DeviceLostError(f"the GPU failed while it refined: {error}") from error

    def fingerprint(self) -> dict[str, Any]:
        """Name the parameters alone, as DenseCRF does: the masks agree."""
        return self.params.fingerprint()

    def memory(self, labels: int) -> int:  # noqa: ARG002
        """Estimate the host's memory: a picture, its logits and its mask are all that it holds there."""
        return PROCESS_MEMORY

    def _refine(self, image: NDArray[np.uint8] | Tensor, logits: Floats | Tensor, geometry: Geometry) -> Refinement:
        check_sizes(image, logits, geometry)
        field, device = self._field, torch.device(self.device)
        image, grid = _on_device(image, device), _on_device(logits, device)
        tile = tile_side(len(grid))
        mask = torch.empty(image.shape[:2], dtype=torch.uint8, device=device)
        counts, kept_at_most = [], 0
        for window in windows(image, grid, geometry, tile, self.params.margin(tile)):
            peaks, lattices = field.survey(window), field.build(window)
            kept = self._kept(peaks.tolist(), logits)
            y, x = window.rows, window.columns
            counts.append(field.iterate(window, lattices, kept, mask[y.start : y.stop, x.start : x.stop]))
            kept_at_most = max(kept_at_most, len(kept))
        pixels = torch.stack([count.pixels for count in counts]).sum(dim=0).cpu().numpy()
        posterior = torch.stack([count.posterior for count in counts]).sum(dim=0).cpu().numpy()
        return Refinement(
            mask=mask.cpu().numpy(),
            confidence=float(posterior.sum() / mask.numel()),
            pixels=pixels,
            class_confidence=(posterior / np.maximum(pixels, 1)).astype(np.float32),
            kept=kept_at_most,
        )

    def _kept(self, peaks: list[float], logits: Floats | Tensor) -> list[int]:
        """Choose the labels that take part, by their largest probabilities; NaN is of logits that are not finite."""
        if peaks[0] != peaks[0]:
            check_finite(logits.float().cpu().numpy() if isinstance(logits, Tensor) else logits)
        least = min(self.prune, max(peaks))
        return [label for label, peak in enumerate(peaks) if peak >= least]

    @cached_property
    def _field(self) -> "MeanField":
        """Open the device.

        Raises:
            CRFError: there is no GPU, or no Triton.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise CRFError("the CRF on a GPU needs a CUDA device, and PyTorch sees none; use --refine.device cpu")
        try:
            from pipeline.refine.crf.cuda.mean_field import MeanField
        except ImportError as error:
            raise CRFError(
                f"the CRF on a GPU needs Triton, which comes with PyTorch's builds for CUDA ({error}); install such a "
                "build where the job runs, or use --refine.device cpu"
            ) from error
        return MeanField(self.params, torch.device(self.device))


def _on_device(array: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Bring an array or a tensor to the device; an array by way of memory that the device reads without the host."""
    if isinstance(array, Tensor):
        return array.to(device)
    if array.dtype.kind == "f":
        array = native_floats(array)
    kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
    staged = torch.empty(array.shape, dtype=kind, pin_memory=device.type == "cuda")
    staged.numpy()[...] = array
    return staged.to(device, non_blocking=True)
