"""The dense CRF: a refiner, and a callable, that checks its input in front of a backend."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, CRFError
from pipeline.geometry import Geometry
from pipeline.logits import Floats, all_finite, native_floats, window
from pipeline.refine.crf.backend import Backend
from pipeline.refine.crf.native import NativeCRF
from pipeline.refine.crf.params import CRFParams
from pipeline.refine.crf.reference import ReferenceCRF
from pipeline.refine.refinement import Labelling
from pipeline.refine.refiner import GpuRefiner
from pipeline.refine.tiles import TiledRefiner

BACKENDS = ("native", "pydensecrf")

PRUNE = 1e-2
"""Above it a label could win that was dropped: the CRF can grow a weak label."""


class DenseCRF(TiledRefiner):
    """Refine with the fully connected CRF with Gaussian edges (arXiv 1210.5644; arXiv 1606.00915, section 3.3).

    One instance serves any number of pictures and labels, from several threads; it can be pickled.
    """

    def __init__(self, params: CRFParams | None = None, backend: str = "native", prune: float = PRUNE) -> None:
        """Choose the energy and the backend.

        Args:
            params: the energy and the number of iterations.
            backend: native, the project's own core; or pydensecrf, which it agrees with.
            prune: labels whose probability is below it at every pixel take no part and get the posterior 0; native goes
                on without those, too, whose posterior is below twice that after a step. At the default 99.99% of a
                photograph's pixels keep their label; 0 keeps all labels. pydensecrf always does.

        Raises:
            ConfigError: no backend of that name, or prune is no probability.
            CRFError: the backend cannot run here.
        """
        if backend not in BACKENDS:
            raise ConfigError(f"no CRF backend {backend!r}; choose from: {', '.join(BACKENDS)}")
        check_prune(prune)
        self.params = params if params is not None else CRFParams()
        self.backend = backend
        self.prune = prune
        self._backend: Backend = NativeCRF(self.params, prune) if backend == "native" else ReferenceCRF(self.params)

    def __reduce__(self) -> tuple[type["DenseCRF"], tuple[CRFParams, str, float]]:
        """Pickle what it was made from: a backend's memory stays where it is."""
        return type(self), (self.params, self.backend, self.prune)

    def __call__(self, image: NDArray[np.uint8], probabilities: Floats) -> NDArray[np.float32]:
        """Compute the posterior of every label at every pixel.

        Args:
            image: (H, W, 3) uint8 RGB: the picture itself, not a preprocessed one.
            probabilities: (C, H, W) of any float type. Neither array is written to, and neither need be contiguous.

        Returns:
            (C, H, W) float32, summing to 1 over the labels.

        Raises:
            ConfigError: label_costs for another number of labels.
            CRFError: wrong shape or type, a value that is not finite or is negative, or a picture too large for the
                lattice.
        """
        _check_image(image)
        _check_probabilities(probabilities, image.shape[:2])
        self.params.check_labels(len(probabilities))
        return self._backend.posterior(image, native_floats(probabilities))

    def label(
        self, image: NDArray[np.uint8], logits: Floats, geometry: Geometry, top: int = 0, left: int = 0
    ) -> Labelling:
        """Upsample the logits, turn them into probabilities, refine these and take the best label, in one call.

        On the native core no array of (C, H, W) is made.

        Args:
            image: (H, W, 3) uint8 RGB: a window of the picture, or all of it.
            logits: (C, h, w) float of the whole picture, C <= 256.
            geometry: of the grid in the picture.
            top: the window's first row in the picture, in pixels.
            left: the window's first column in the picture, in pixels.

        Raises:
            ConfigError: label_costs for another number of labels.
            CRFError: wrong shape or type, logits that are not finite, or a picture too large for the lattice.
            ModelError: the window reaches beyond the logits.
        """
        _check_image(image)
        height, width = image.shape[:2]
        grid, rows, columns = window(logits, height, width, geometry, top, left)
        if logits.dtype.kind != "f" or not 1 <= len(logits) <= 256:
            raise CRFError(
                f"the CRF takes logits (C, h, w) float of 1 to 256 labels, not {logits.shape} {logits.dtype}"
            )
        self.params.check_labels(len(logits))
        if not all_finite(grid):
            raise CRFError("the CRF takes logits that are finite in float32; in these there is a NaN or an infinity")
        return self._backend.label(image, native_floats(grid), rows, columns)

    def margin(self, tile: int) -> int:
        """Give the reach of the widest kernel; see CRFParams.margin."""
        return self.params.margin(tile)

    def fingerprint(self) -> dict[str, Any]:
        """Name the parameters alone: backends agree, and pruning is meant to change nothing."""
        return self.params.fingerprint()

    def on_gpu(self) -> GpuRefiner | None:
        """Give the native CRF's equal on a GPU; pydensecrf, the reference, stays on the CPU."""
        if self.backend != "native":
            return None
        from pipeline.refine.crf.cuda import CudaCRF  # torch takes seconds to import

        return CudaCRF(self.params, self.prune)


def check_prune(prune: float) -> None:
    """Raise ConfigError for what is no probability."""
    if not 0 <= prune <= 1:
        raise ConfigError(f"prune is {prune}; it is a probability, from 0 to 1")


def _check_image(image: NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise CRFError(f"the CRF takes an image (H, W, 3) uint8, not {image.shape} {image.dtype}")


def _check_probabilities(probabilities: Floats, size: tuple[int, ...]) -> None:
    if probabilities.ndim != 3 or probabilities.shape[0] == 0 or probabilities.dtype.kind != "f":
        raise CRFError(f"the CRF takes probabilities (C, H, W) float, not {probabilities.shape} {probabilities.dtype}")
    if probabilities.shape[1:] != size:
        raise CRFError(
            f"probabilities are {probabilities.shape[1:]} pixels (H, W), the image is {size}; sizes must agree"
        )
    low, high = probabilities.min(), probabilities.max()  # a NaN anywhere makes both NaN
    largest = np.finfo(np.float32).max
    if not (low >= 0 and high <= largest):
        bad = ~((probabilities >= 0) & (probabilities <= largest))
        label, row, column = (int(i) for i in np.argwhere(bad)[0])
        raise CRFError(
            f"the probability of label {label} at row {row}, column {column} is {probabilities[label, row, column]}; "
            f"{int(bad.sum())} of {bad.size} values are not finite in float32, or are negative"
        )
