"""The protocol of a refiner: from the logits of pictures to their masks."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Geometry
from pipeline.logits import Floats
from pipeline.refine.refinement import Refinement

if TYPE_CHECKING:
    from torch import Tensor


class Refiner(Protocol):
    """Turn the logits of pictures into masks.

    A refiner is pickled on its way to the processes that use it, and serves any number of pictures there. TiledRefiner
    is the base of those that label a picture window by window.
    """

    @abstractmethod
    def refine(
        self, images: Sequence[NDArray[np.uint8]], logits: Sequence[Floats], geometry: Geometry
    ) -> list[Refinement]:
        """Refine a batch of pictures.

        Args:
            images: (H, W, 3) uint8 RGB each, of any sizes.
            logits: of each picture (C, h, w) float, h x w = geometry.grid(H, W), C <= 256.
            geometry: of the grids in their pictures.

        Returns:
            one for each picture, in their order.

        Raises:
            CRFError: wrong shapes, or logits that are not finite.
            DeviceLostError: a GPU failed, and this process can do nothing more on it.
        """

    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """Name the algorithm and the parameters that decide a mask, as {name: parameters} of plain JSON values.

        Masks of one fingerprint answer for each other. What only decides how fast a mask is made, such as the device,
        is left out, and no two algorithms share a name.
        """

    @abstractmethod
    def memory(self, labels: int) -> int:
        """Estimate the bytes that a process of its own takes at the peak, for logits of so many labels."""

    def on_gpu(self) -> "GpuRefiner | None":
        """Give the refiner of the same fingerprint for a process with a GPU, or None where CPUs alone can refine.

        It is called where there may be no GPU; the refiner it gives opens the device when it first refines.
        """
        return None


class GpuRefiner(Refiner):
    """Turn the logits of pictures into masks on this process' GPU, wherever pictures and logits are.

    One thread at a time uses it. It launches on the current stream, and what it is given must be ready there. That is
    the same stream at every call, since memory that the refiner keeps belongs to it.
    """

    @abstractmethod
    def open(self) -> None:
        """Open this process' GPU, where refine has not: what is missing is then told before there are pictures.

        Raises:
            CRFError: no GPU, no Triton, or no C compiler.
        """

    @abstractmethod
    def refine(
        self, images: "Sequence[NDArray[np.uint8] | Tensor]", logits: "Sequence[Floats | Tensor]", geometry: Geometry
    ) -> list[Refinement]:
        """Refine a batch of pictures; only masks and what is counted come back to the host.

        Each image and each grid of logits is an array of the host or a tensor, of any strides; a tensor on the GPU is
        read where it is, on the current stream, and a tensor on the host is copied as an array is. None is written to.

        Args:
            images: (H, W, 3) uint8 RGB each, of any sizes: without the padding that a network's batch may have.
            logits: of each picture (C, h, w), h x w = geometry.grid(H, W), C <= 256: arrays of any float type, tensors
                of float16, bfloat16, float32 or float64. A view of a batch's logits will do.
            geometry: of the grids in their pictures.

        Returns:
            one for each picture, in their order; arrays of the host.

        Raises:
            CRFError: wrong shapes, logits that are not finite, or what `open` raises.
            DeviceLostError: the GPU failed, and this process can do nothing more on it.
            torch.OutOfMemoryError: a window of a picture does not fit into the GPU's free memory.
        """


def noted(refiner: Refiner) -> dict[str, Any] | None:
    """Give what an output notes of a refiner under `crf`.

    Returns:
        the dense CRF's parameters, None for the plain argmax, and {name: parameters} for any other refiner.
    """
    fingerprint = dict(refiner.fingerprint())
    note: dict[str, Any] | None = fingerprint.get("crf", fingerprint)
    return note
