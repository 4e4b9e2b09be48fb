"""The network's own masks: no refinement."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import Geometry
from pipeline.logits import Floats, best_label, softmax, upsample
from pipeline.refine.refinement import Labelling
from pipeline.refine.tiles import TiledRefiner


class Argmax(TiledRefiner):
    """Take the best label of the upsampled logits, whatever the picture shows."""

    def label(
        self, image: NDArray[np.uint8], logits: Floats, geometry: Geometry, top: int = 0, left: int = 0
    ) -> Labelling:
        """Label a window by the largest of its upsampled logits; see TiledRefiner."""
        height, width = image.shape[:2]
        full = upsample(logits, height, width, geometry, top, left)  # (C, H, W)
        return Labelling(*best_label(softmax(full, out=full)), kept=len(logits))

    def fingerprint(self) -> dict[str, Any]:
        """Say that there is no CRF, as outputs have noted it since before there were other refiners."""
        return {"crf": None}
