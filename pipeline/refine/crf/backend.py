"""The part of the dense CRF that an implementation on CPUs must have."""

from abc import abstractmethod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Axis
from pipeline.logits import Floats, interpolate, softmax
from pipeline.refine.refinement import Labelling


class Backend(Protocol):
    """Compute the mean field of input that DenseCRF has checked."""

    @abstractmethod
    def posterior(self, image: NDArray[np.uint8], probabilities: Floats) -> NDArray[np.float32]:
        """Compute the posterior, as DenseCRF.__call__."""

    def label(self, image: NDArray[np.uint8], logits: Floats, rows: Axis, columns: Axis) -> Labelling:
        """Label a window, as DenseCRF.label, by way of the posterior of every label; `rows` and `columns` place it."""
        height, width = image.shape[:2]
        full = interpolate(logits, height, width, rows, columns)  # (C, H, W)
        return Labelling.of(self.posterior(image, softmax(full, out=full)))
