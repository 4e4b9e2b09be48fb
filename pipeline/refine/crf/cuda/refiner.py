"""The dense CRF on this process' GPU, as a refiner."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import CRFError, DeviceLostError
from pipeline.geometry import Geometry
from pipeline.logits import Floats, native_floats
from pipeline.refine.crf.cuda.window import Window, windows
from pipeline.refine.crf.params import CRFParams
from pipeline.refine.refinement import Refinement
from pipeline.refine.refiner import GpuRefiner
from pipeline.refine.tiles import PROCESS_MEMORY, check_finite, check_sizes, tile_side

if TYPE_CHECKING:  # they need Triton
    from pipeline.refine.crf.cuda.lattice import Lattice
    from pipeline.refine.crf.cuda.mean_field import Labels, MeanField


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

    def open(self) -> None:
        """Open the device; see GpuRefiner."""
        _ = self._fields

    def refine(
        self, images: Sequence[NDArray[np.uint8] | Tensor], logits: Sequence[Floats | Tensor], geometry: Geometry
    ) -> list[Refinement]:
        """Refine a batch; see GpuRefiner."""
        try:
            with torch.inference_mode():
                return self._refine_in_turn(zip(images, logits, strict=True), geometry)
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

    def _refine_in_turn(
        self, pictures: "Iterable[tuple[NDArray[np.uint8] | Tensor, Floats | Tensor]]", geometry: Geometry
    ) -> list[Refinement]:
        """Refine pictures in turn; the device begins with a window before the host knows what the one before holds."""
        at_once = len(self._fields)
        begun: deque[_Begun] = deque()
        refined = []
        for image, logits in pictures:
            check_sizes(image, logits, geometry)
            self.params.check_labels(len(logits))
            picture = _Picture(image, logits, torch.device(self.device))
            refined.append(picture)
            tile = tile_side(len(logits))
            for window in windows(picture.image, picture.grid, geometry, tile, self.params.margin(tile)):
                begun.append(self._begin(window, picture))
                if len(begun) == at_once:
                    self._end(begun.popleft())
        while begun:
            self._end(begun.popleft())
        return [picture.refinement() for picture in refined]

    def _begin(self, window: Window, picture: "_Picture") -> "_Begun":
        """Have the device survey a window and build its lattices; the host waits for nothing."""
        self._fields.rotate()
        field = self._fields[0]
        peaks = _Fetched(field.survey(window))
        return _Begun(window, picture, field, peaks, field.build(window))

    def _end(self, begun: "_Begun") -> None:
        """Have the device iterate and label a window, of those labels that its survey found."""
        window, picture = begun.window, begun.picture
        kept = self._kept(begun.peaks.array().tolist(), picture.logits)
        y, x = window.rows, window.columns
        core = picture.labelled[:, y.start : y.stop, x.start : x.stop]
        picture.counts.append(begun.field.iterate(window, begun.lattices, kept, core))
        picture.kept = max(picture.kept, len(kept))

    def _kept(self, peaks: list[float], logits: Floats | Tensor) -> list[int]:
        """Choose the labels that take part, by their largest probabilities; NaN is of logits that are not finite."""
        if peaks[0] != peaks[0]:
            check_finite(logits.float().cpu().numpy() if isinstance(logits, Tensor) else logits)
        least = min(self.prune, max(peaks))
        return [label for label, peak in enumerate(peaks) if peak >= least]

    @cached_property
    def _fields(self) -> "deque[MeanField]":
        """Open the device: two mean fields, one of which begins while the other ends.

        Raises:
            CRFError: there is no GPU, no Triton, or no C compiler.
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
        if self.device == "cuda":
            _start_triton()
        first = MeanField(self.params, torch.device(self.device))
        return deque([first, MeanField(self.params, torch.device(self.device), beside=first)])


def _start_triton() -> None:
    """Have Triton compile what launches its kernels, which it would do at the first launch. Raises CRFError."""
    from triton.runtime import driver

    try:
        _ = driver.active.utils
    except Exception as error:  # of any kind: no compiler, one that fails, no library of the GPU's driver
        reason = " ".join(str(error).split())[:300]
        raise CRFError(
            f"Triton cannot compile what launches the CRF's kernels on a GPU ({reason}); install a C compiler where "
            "the job runs, such as Debian's gcc and libc6-dev, with Python's headers, or use --refine.device cpu"
        ) from error


@dataclass(frozen=True)
class _Begun:
    """Hold a window that the device has surveyed, or is about to."""

    window: Window
    picture: "_Picture"
    field: "MeanField"
    peaks: "_Fetched"
    lattices: "list[Lattice]"


class _Picture:
    """Hold a picture on the device, and what its windows are labelled as."""

    def __init__(self, image: NDArray[np.uint8] | Tensor, logits: Floats | Tensor, device: torch.device) -> None:
        self.logits = logits
        self.image, self.grid = _on_device(image, device), _on_device(logits, device)
        self.labelled = torch.empty((2, *image.shape[:2]), dtype=torch.uint8, device=device)  # labels, posteriors
        self.counts: list[Labels] = []
        self.kept = 0

    def refinement(self) -> Refinement:
        """Bring the mask to the host once all windows are labelled."""
        pixels = torch.stack([count.pixels for count in self.counts]).sum(dim=0).cpu().numpy()
        posterior = torch.stack([count.posterior for count in self.counts]).sum(dim=0).cpu().numpy()
        mask, posterior_map = self.labelled.cpu().numpy()
        return Refinement(
            mask=mask,
            posterior=posterior_map,
            confidence=float(posterior.sum() / mask.size),
            pixels=pixels,
            class_confidence=(posterior / np.maximum(pixels, 1)).astype(np.float32),
            kept=self.kept,
        )


class _Fetched:
    """Fetch a tensor from the device to the host behind what was launched so far, and wait for that alone."""

    def __init__(self, tensor: Tensor) -> None:
        on_gpu = tensor.device.type == "cuda"
        self._copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=on_gpu).copy_(tensor, non_blocking=True)
        self._done = torch.cuda.current_stream(tensor.device).record_event() if on_gpu else None

    def array(self) -> NDArray[Any]:
        """Wait for the copy."""
        if self._done:
            self._done.synchronize()
        return self._copy.numpy()


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
