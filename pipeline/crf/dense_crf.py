"""The dense CRF as a callable: input checks in front of a backend."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.crf import reference
from pipeline.crf.params import CRFParams
from pipeline.errors import ConfigError, CRFError
from pipeline.scores import Floats

Posterior = Callable[[CRFParams, NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float32]]

BACKENDS: dict[str, tuple[Callable[[], None], Posterior]] = {
    "pydensecrf": (reference.require, reference.posterior),
}
"""Name to (check that it can run here, posterior)."""


class DenseCRF:
    """Fully connected CRF with Gaussian edge potentials (arXiv 1210.5644; arXiv 1606.00915, section 3.3).

    One instance serves any number of pictures and labels; it can be pickled.
    """

    def __init__(self, params: CRFParams | None = None, backend: str = "pydensecrf") -> None:
        """Choose the energy and the backend.

        Raises:
            ConfigError: no backend of that name.
            CRFError: the backend is not installed.
        """
        if backend not in BACKENDS:
            raise ConfigError(f"no CRF backend {backend!r}; choose from: {', '.join(BACKENDS)}")
        self.params = params if params is not None else CRFParams()
        self.backend = backend
        require, self._posterior = BACKENDS[backend]
        require()

    def __call__(self, image: NDArray[np.uint8], probabilities: Floats) -> NDArray[np.float32]:
        """Posterior of every label at every pixel.

        Args:
            image: (H, W, 3) uint8 RGB: the picture itself, not a preprocessed one.
            probabilities: (C, H, W) of any float type. Neither array is written to, and neither need be contiguous.

        Returns:
            (C, H, W) float32, summing to 1 over the labels.

        Raises:
            CRFError: wrong shape or type, or a value that is not finite or is negative.
        """
        _check_image(image)
        _check_probabilities(probabilities, image.shape[:2])
        return self._posterior(
            self.params, np.ascontiguousarray(image), np.ascontiguousarray(probabilities, dtype=np.float32)
        )


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
