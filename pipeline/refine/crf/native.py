"""The dense CRF on the project's compiled core: pydensecrf's energy, lattices and mean field, several times as fast."""

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CRFError
from pipeline.geometry import Axis
from pipeline.logits import Floats
from pipeline.refine.crf.backend import Backend
from pipeline.refine.crf.params import CRFParams
from pipeline.refine.refinement import Labelling

_INTERFACE = 4
"""Of dense_crf_core; core/module.cpp has the same number."""


class NativeCRF(Backend):
    """Compute the mean field on one thread, with the interpreter lock released; calls from several threads take turns.

    It keeps its memory from one picture to the next: about 300 bytes a pixel and 8 bytes a label and lattice vertex of
    the largest picture so far.
    """

    def __init__(self, params: CRFParams, prune: float) -> None:
        """Load the core. Raises CRFError where it is not installed, or is of another version."""
        self._module = _load()
        self._core = self._module.Core()
        self._parameters = self._module.Parameters(
            iterations=int(params.iterations),
            gaussian_weight=params.gaussian_weight,
            gaussian_xy=params.gaussian_xy,
            bilateral_weight=params.bilateral_weight,
            bilateral_xy=params.bilateral_xy,
            bilateral_rgb=params.bilateral_rgb,
            symmetric=params.normalization == "symmetric",
            prune=prune,
            label_costs=list(params.label_costs),
        )

    def posterior(self, image: NDArray[np.uint8], probabilities: Floats) -> NDArray[np.float32]:
        """Compute the posterior (C, H, W) float32 of image (H, W, 3) and probabilities (C, H, W); see DenseCRF."""
        self._check_labels(len(probabilities))
        try:
            posterior: NDArray[np.float32] = self._core.posterior(image, probabilities, self._parameters)
        except OverflowError as error:
            raise _too_large(image, error) from None
        return posterior

    def label(self, image: NDArray[np.uint8], logits: Floats, rows: Axis, columns: Axis) -> Labelling:
        """Label a window without an array of (C, H, W); see DenseCRF."""
        self._check_labels(len(logits))
        try:
            return Labelling(*self._core.label(image, logits, rows, columns, self._parameters))
        except OverflowError as error:
            raise _too_large(image, error) from None

    def _check_labels(self, labels: int) -> None:
        if labels > self._module.MAX_LABELS:
            raise CRFError(f"the native CRF takes at most {self._module.MAX_LABELS} labels, not {labels}")


def _load() -> ModuleType:
    try:
        import dense_crf_core
    except ImportError as error:
        raise CRFError(
            f"the CRF's compiled core cannot be loaded ({error}); install the project where the job runs "
            "(pip install . builds it with a C++ compiler), or choose the backend pydensecrf"
        ) from error
    if dense_crf_core.INTERFACE != _INTERFACE:
        raise CRFError(
            f"the CRF's compiled core has interface {dense_crf_core.INTERFACE}, this source tree needs {_INTERFACE}; "
            "install the same version of the project where the job runs"
        )
    return dense_crf_core  # type: ignore[no-any-return]


def _too_large(image: NDArray[np.uint8], error: OverflowError) -> CRFError:
    height, width = image.shape[:2]
    return CRFError(
        f"the lattice cannot number a picture of {height}x{width} at these standard deviations: {error}; "
        "use larger ones, or DenseCRF.refine, which works in tiles"
    )
