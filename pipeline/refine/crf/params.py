"""The dense CRF's parameters."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.errors import ConfigError
from pipeline.numbers import is_number

MIN_SIGMA = 0.1
"""At this standard deviation a neighbour one unit away already weighs exp(-50); lattices overflow not far below it."""

MAX_SIGMA = 1e5
MAX_WEIGHT = 1e5
MAX_ITERATIONS = 1000
MAX_COST = 10


@dataclass(frozen=True, kw_only=True)
class CRFParams:
    """Set energy and inference of the fully connected CRF (arXiv 1606.00915, section 3.3, equations 2 and 3).

    Pairwise term, for labels that differ, over pixels with positions p and colours I:
    bilateral_weight * exp(-|p_i - p_j|^2 / (2 bilateral_xy^2) - |I_i - I_j|^2 / (2 bilateral_rgb^2))
    + gaussian_weight * exp(-|p_i - p_j|^2 / (2 gaussian_xy^2)).
    It counts once whichever the two labels are (Potts' model), or with label_costs as often as their mean cost. A pixel
    of a thin thing has most of its neighbours, and so Potts' model, against it; at a cost of 0 it pays half as much for
    them, and gains nothing from its own. So a label's cost says how far the CRF decides on it, and how far the network.
    The defaults are the authors' released values for ResNet-101.

    Attributes:
        iterations: mean-field updates; 0 leaves the probabilities as they are.
        gaussian_weight: w2 of the smoothness kernel; 0 leaves the kernel out.
        gaussian_xy: standard deviation of the smoothness kernel, pixels.
        bilateral_weight: w1 of the appearance kernel; 0 leaves the kernel out.
        bilateral_xy: standard deviation of the appearance kernel in space, pixels.
        bilateral_rgb: standard deviation of the appearance kernel in colour, levels of 0..255.
        normalization: "symmetric" scales a kernel on both sides by 1/sqrt(its row sums); "after" divides by the row
            sums after filtering, as the authors' own code does.
        label_costs: c of each label, by its id: labels a and b pay (c_a + c_b) / 2 times the pairwise term (label
            compatibility, arXiv 1210.5644, section 2); empty where all are 1.
    """

    iterations: int = 10
    gaussian_weight: float = 3.0
    gaussian_xy: float = 1.0
    bilateral_weight: float = 4.0
    bilateral_xy: float = 67.0
    bilateral_rgb: float = 3.0
    normalization: Literal["symmetric", "after"] = "symmetric"
    label_costs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for a value outside its range."""
        _check("iterations", self.iterations, 0, MAX_ITERATIONS)
        _check("gaussian_weight", self.gaussian_weight, 0, MAX_WEIGHT)
        _check("bilateral_weight", self.bilateral_weight, 0, MAX_WEIGHT)
        _check("gaussian_xy", self.gaussian_xy, MIN_SIGMA, MAX_SIGMA)
        _check("bilateral_xy", self.bilateral_xy, MIN_SIGMA, MAX_SIGMA)
        _check("bilateral_rgb", self.bilateral_rgb, MIN_SIGMA, MAX_SIGMA)
        if self.iterations != int(self.iterations):
            raise ConfigError(f"CRF iterations must be a whole number, not {self.iterations}")
        if self.normalization not in ("symmetric", "after"):
            raise ConfigError(f"CRF normalization must be 'symmetric' or 'after', not {self.normalization!r}")
        for label, cost in enumerate(self.label_costs):
            _check(f"label_costs[{label}]", cost, 0, MAX_COST)

    def margin(self, tile: int) -> int:
        """Give the context, in pixels, that a tile of `tile` pixels a side needs around its core.

        Two standard deviations of the widest kernel in use, at most a quarter of the tile.
        """
        reach = max(
            self.gaussian_xy if self.gaussian_weight > 0 else 0,
            self.bilateral_xy if self.bilateral_weight > 0 else 0,
        )
        return min(math.ceil(2 * reach), tile // 4)

    def fingerprint(self) -> dict[str, Any]:
        """Name the dense CRF with these parameters; see Refiner. Costs that are all 1 are not named, as ever."""
        parameters = asdict(self)
        costs = parameters.pop("label_costs")
        return {"crf": parameters | ({"label_costs": list(costs)} if any(cost != 1 for cost in costs) else {})}

    def check_labels(self, labels: int) -> None:
        """Raise ConfigError where there are costs, and not for so many labels."""
        if self.label_costs and len(self.label_costs) != labels:
            raise ConfigError(
                f"CRF label_costs are {len(self.label_costs)}, and there are {labels} labels; give each one"
            )


def _check(name: str, value: float, low: float, high: float) -> None:
    if not (is_number(value) and low <= value <= high):
        raise ConfigError(f"CRF {name} must be in [{low:g}, {high:g}], not {value!r}")
