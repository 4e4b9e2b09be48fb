"""The dense CRF as a callable: input checks in front of a backend."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, CRFError
from pipeline.logits import Floats, best_label, softmax, upsample, window
from pipeline.refine.crf.native import NativeCRF
from pipeline.refine.crf.params import CRFParams
from pipeline.refine.crf.reference import ReferenceCRF
from pipeline.refine.refinement import Labelling, Refinement

BACKENDS = ("native", "pydensecrf", "cuda")

PRUNE = 1e-2
"""Above it a label could win that was dropped: the CRF can grow a weak label."""


class Backend(Protocol):
    """What computes the posterior."""

    def posterior(self, image: NDArray[np.uint8], probabilities: Floats) -> NDArray[np.float32]:
        """As DenseCRF.__call__, of input that was checked."""


class DenseCRF:
    """Fully connected CRF with Gaussian edge potentials (arXiv 1210.5644; arXiv 1606.00915, section 3.3).

    One instance serves any number of pictures and labels, from several threads; it can be pickled.
    """

    def __init__(self, params: CRFParams | None = None, backend: str = "native", prune: float = PRUNE) -> None:
        """Choose the energy and the backend.

        Args:
            params: the energy and the number of iterations.
            backend: native, the project's own core; pydensecrf, which it agrees with; or cuda, on the GPU.
            prune: labels whose probability is below it at every pixel take no part and get the posterior 0; native goes
                on without those, too, whose posterior is below twice that after a step. At the default 99.99% of a
                photograph's pixels keep their label; 0 keeps all labels. pydensecrf always does.

        Raises:
            ConfigError: no backend of that name, or prune is no probability.
            CRFError: the backend cannot run here.
        """
        if backend not in BACKENDS:
            raise ConfigError(f"no CRF backend {backend!r}; choose from: {', '.join(BACKENDS)}")
        if not 0 <= prune <= 1:
            raise ConfigError(f"prune is {prune}; it is a probability, from 0 to 1")
        self.params = params if params is not None else CRFParams()
        self.backend = backend
        self.prune = prune
        self._backend = _open(backend, self.params, prune)

    def __reduce__(self) -> tuple[type["DenseCRF"], tuple[CRFParams, str, float]]:
        """Pickle what it was made from: a backend's memory stays where it is."""
        return type(self), (self.params, self.backend, self.prune)

    def __call__(self, image: NDArray[np.uint8], probabilities: Floats) -> NDArray[np.float32]:
        """Posterior of every label at every pixel.

        Args:
            image: (H, W, 3) uint8 RGB: the picture itself, not a preprocessed one.
            probabilities: (C, H, W) of any float type. Neither array is written to, and neither need be contiguous.

        Returns:
            (C, H, W) float32, summing to 1 over the labels.

        Raises:
            CRFError: wrong shape or type, a value that is not finite or is negative, or a picture too large for the
                lattice.
        """
        _check_image(image)
        _check_probabilities(probabilities, image.shape[:2])
        return self._backend.posterior(image, probabilities)

    def label(self, image: NDArray[np.uint8], scores: Floats, stride: int, top: int = 0, left: int = 0) -> Labelling:
        """Upsample the scores, turn them into probabilities, refine these and take the best label, in one call.

        On the native core no array of (C, H, W) is made.

        Args:
            image: (H, W, 3) uint8 RGB: a window of the picture, or all of it.
            scores: (C, h, w) float logits of the whole picture, C <= 256, with the geometry of pipeline.logits.
            stride: output stride of the scores, in pixels.
            top: the window's first row in the picture, in pixels.
            left: the window's first column in the picture, in pixels.

        Raises:
            CRFError: wrong shape or type, scores that are not finite, or a picture too large for the lattice.
            ModelError: the window reaches beyond the scores.
        """
        _check_image(image)
        height, width = image.shape[:2]
        grid, top, left = window(scores, height, width, stride, top, left)
        if scores.dtype.kind != "f" or not 1 <= len(scores) <= 256:
            raise CRFError(
                f"the CRF takes scores (C, h, w) float of 1 to 256 labels, not {scores.shape} {scores.dtype}"
            )
        if not np.isfinite(grid).all():
            raise CRFError("the CRF takes finite scores; in these there is a NaN or an infinity")
        if isinstance(self._backend, NativeCRF):
            return self._backend.label(image, grid, stride, top, left)
        logits = upsample(grid, height, width, stride, top, left)
        posterior = self._backend.posterior(image, softmax(logits, out=logits))
        return Labelling(*best_label(posterior), kept=int(posterior.any(axis=(1, 2)).sum()))

    def refine_together(
        self, images: Sequence[NDArray[np.uint8]], scores: Sequence[Floats], stride: int
    ) -> list[Refinement]:
        """Refine whole pictures of one size on the GPU at once; for the backend cuda alone. See refine_batch."""
        from pipeline.refine.crf.cuda import CudaCRF

        if not isinstance(self._backend, CudaCRF):
            raise ConfigError(f"the CRF backend {self.backend!r} refines one picture at a time; cuda takes several")
        return self._backend.refine_together(images, scores, stride)


def _open(backend: str, params: CRFParams, prune: float) -> Backend:
    if backend == "native":
        return NativeCRF(params, prune)
    if backend == "pydensecrf":
        return ReferenceCRF(params)
    from pipeline.refine.crf.cuda import CudaCRF  # torch takes seconds to import

    return CudaCRF(params, prune)


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
    if not (low >= 0 and high < np.inf):
        bad = ~(np.isfinite(probabilities) & (probabilities >= 0))
        label, row, column = (int(i) for i in np.argwhere(bad)[0])
        raise CRFError(
            f"the probability of label {label} at row {row}, column {column} is {probabilities[label, row, column]}; "
            f"{int(bad.sum())} of {bad.size} values are not finite or are negative"
        )
