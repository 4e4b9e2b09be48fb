"""Check the scales at which a network sees a picture, and the sizes that are valid at all of them."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from pipeline.errors import ConfigError

Fusion = Literal["maximum", "mean"]
"""How the logits of several scales become one: the largest of each class, or the logarithm of the mean posterior."""

SINGLE_SCALE = (1.0,)
MULTI_SCALE = (0.5, 0.75, 1.0)
MAX_SCALE = 2.0
MAX_DENOMINATOR = 16
_ROUNDING = 1e-5  # a third is written with six digits or more


def check_scales(scales: tuple[float, ...]) -> None:
    """Raise ConfigError unless there is a scale and each is above 0, at most 2 and a fraction of few parts.

    A scale s must keep grid points in place: sizes of the picture are chosen so that s times a size is whole.
    """
    if not scales or not all(0 < scale <= MAX_SCALE for scale in scales):
        raise ConfigError(f"scales are {scales}; give at least one, each above 0 and at most {MAX_SCALE:g}")
    for scale in scales:
        nearest = max(Fraction(scale).limit_denominator(MAX_DENOMINATOR), Fraction(1, MAX_DENOMINATOR))  # none is 0
        if abs(nearest - Fraction(scale)) > _ROUNDING:
            raise ConfigError(
                f"the scale {scale} is no fraction with a denominator up to {MAX_DENOMINATOR}; "
                f"the nearest is {nearest}, {float(nearest):.6g}"
            )


def valid_step(stride: int, scales: Sequence[float]) -> int:
    """Return the step whose sizes k * step + 1 are valid for the output stride at every scale, in pixels.

    At stride 8 that is 8 for one scale, 32 for {0.5, 0.75, 1}.
    """
    fractions = (Fraction(scale).limit_denominator(MAX_DENOMINATOR) for scale in scales)
    return stride * math.lcm(*(fraction.denominator for fraction in fractions))
