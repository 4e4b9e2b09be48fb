"""The dense CRF on pydensecrf: Krähenbühl and Koltun's mean field over permutohedral lattices, one thread.

It agrees with exact mean field on about 99.5% of a photograph's pixels; the rest is the lattice's approximation.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CRFError
from pipeline.logits import Floats
from pipeline.refine.crf.backend import Backend
from pipeline.refine.crf.params import CRFParams

PROBABILITY_FLOOR = 1e-5
"""The unary energy is -log(max(p, floor)), as in the authors' code: no label is ever impossible."""

_KEY_MAX = 32767  # pydensecrf keeps lattice coordinates in 16 bits and wraps silently above


class ReferenceCRF(Backend):
    """Compute the mean field with pydensecrf, against which the other backends are measured."""

    def __init__(self, params: CRFParams) -> None:
        """Raise CRFError where pydensecrf is not installed."""
        try:
            import pydensecrf.densecrf  # noqa: F401
        except ImportError as error:
            raise CRFError(
                "the CRF backend 'pydensecrf' is not installed; up to Python 3.12 run: pip install pydensecrf2. It "
                "cannot be built for later ones, where the backend 'native' gives the same"
            ) from error
        self._params = params

    def posterior(self, image: NDArray[np.uint8], probabilities: Floats) -> NDArray[np.float32]:
        """Mean-field posterior of one picture, working out every label and pixel; see DenseCRF.

        Raises:
            CRFError: the picture is too large for the lattice at these standard deviations.
        """
        from pydensecrf import densecrf

        params = self._params
        labels, height, width = probabilities.shape
        crf = densecrf.DenseCRF2D(width, height, labels)
        unary = np.maximum(probabilities, PROBABILITY_FLOOR, dtype=np.float32, order="C")  # the library wants to write
        np.log(unary, out=unary)
        np.negative(unary, out=unary)
        crf.setUnaryEnergy(unary.reshape(labels, height * width))
        normalization = {"symmetric": densecrf.NORMALIZE_SYMMETRIC, "after": densecrf.NORMALIZE_AFTER}
        kernel = {"kernel": densecrf.DIAG_KERNEL, "normalization": normalization[params.normalization]}
        costs = _compatibility(params, labels)
        if params.gaussian_weight > 0:
            xy = float(params.gaussian_xy)
            _check_lattice("gaussian_xy", [width / xy, height / xy])
            crf.addPairwiseGaussian(sxy=xy, compat=params.gaussian_weight * costs, **kernel)
        if params.bilateral_weight > 0:
            xy, rgb = float(params.bilateral_xy), float(params.bilateral_rgb)
            _check_lattice("bilateral_xy and bilateral_rgb", [width / xy, height / xy, 255 / rgb, 255 / rgb, 255 / rgb])
            picture = np.require(image, requirements=["C", "W"])  # copies only what is read-only or scattered
            crf.addPairwiseBilateral(sxy=xy, srgb=rgb, rgbim=picture, compat=params.bilateral_weight * costs, **kernel)
        columns = np.asarray(crf.inference(int(params.iterations)))  # (C, H*W), a pixel's labels side by side
        return np.ascontiguousarray(columns).reshape(labels, height, width)


def _compatibility(params: CRFParams, labels: int) -> NDArray[np.float32] | float:
    """Give what two labels pay beside each other, (C, C), or 1 for Potts' model."""
    if not params.label_costs:
        return 1.0
    costs = np.array(params.label_costs, np.float32)
    return np.where(np.eye(labels, dtype=bool), np.float32(0), (costs[:, None] + costs) / 2)


def _check_lattice(sigmas: str, extents: list[float]) -> None:
    """Refuse features, in standard deviations, whose lattice keys overflow (elevation: Adams et al. 2010, page 5)."""
    dimensions = len(extents)
    scale = np.sqrt(2 / 3) * (dimensions + 1)
    elevated = [scale * extent / np.sqrt((i + 1) * (i + 2)) for i, extent in enumerate(extents)]
    key = max(sum(elevated), *((i + 1) * value for i, value in enumerate(elevated))) + dimensions + 1
    if key > _KEY_MAX:
        raise CRFError(
            f"the picture spans {max(extents):.0f} standard deviations of {sigmas}, more than pydensecrf's lattice can "
            "number; use a larger standard deviation, or DenseCRF.refine, which works in tiles"
        )
