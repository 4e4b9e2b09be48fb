"""Say where the points of a grid of logits lie in their picture, and what sides a network's pictures have."""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, NamedTuple

from pipeline.errors import ConfigError

Origin = Literal["aligned", "half"]
LONGEST = 2**16
"""The longest side in pixels that a picture may be resized to."""
_LAST_FILTER = 5  # of those that Pillow numbers from 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """Say to what sides a picture is brought before the network sees it.

    Exactly `sides`, which may change its proportions; or, with them kept, so that the shorter side is `shortest`, and
    the longer one at most `longest`, in pixels, as transformers' get_size_with_aspect_ratio has it; each side is then
    rounded to a multiple of `multiple`, the nearest one or the next one `up`, and is one at least.
    resample: the filter, as Pillow numbers them: 0 nearest, 2 bilinear, 3 bicubic.
    """

    sides: tuple[int, int] | None = None
    shortest: int | None = None
    longest: int | None = None
    multiple: int = 1
    rounding: Literal["nearest", "up"] = field(default="nearest", repr=False)  # networks' digests hold what decides it
    resample: int = 2

    def __post_init__(self) -> None:
        """Raise ConfigError for what is no rule, or gives no pixel."""
        if (self.sides is None) == (self.shortest is None):
            raise ConfigError("a rule of sizes has either both sides or the shorter one")
        for value in (*(self.sides or (self.shortest, self.longest)), self.multiple):
            if value is not None and not (type(value) is int and 1 <= value <= LONGEST):
                raise ConfigError(
                    f"a side of {value} pixels, or of a multiple of it, is none that a network's pictures can have; "
                    f"give whole numbers from 1 to {LONGEST}"
                )
        if type(self.resample) is not int or not 0 <= self.resample <= _LAST_FILTER:
            raise ConfigError(f"resample is {self.resample}; it must be a filter of Pillow, from 0 to {_LAST_FILTER}")

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Return the sides that a picture of height x width pixels is brought to."""
        whole = math.ceil if self.rounding == "up" else round
        rows, columns = (max(whole(side / self.multiple), 1) * self.multiple for side in self._wanted(height, width))
        return rows, columns

    def _wanted(self, height: int, width: int) -> tuple[int, int]:
        """Return the sides before they are rounded."""
        if self.sides is not None:
            return self.sides
        assert self.shortest is not None
        low, high = min(height, width), max(height, width)
        exact: float = self.shortest
        if self.longest is not None and high / low * exact > self.longest:
            exact = self.longest * low / high
        size = round(exact)
        long = high if low == size else int(exact * high / low)
        return (size, long) if height <= width else (long, size)


class Axis(NamedTuple):
    """Place the pixels of a window along one axis: pixel y lies (step * y + offset) / unit points behind the first.

    Both that position's floor and the point after it are clamped to the points that there are.
    """

    step: int
    offset: int
    unit: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """Place grid point i of stride s in the picture.

    origin: "aligned": it is centred on pixel s i, as with align_corners=True; "half": on s i + (s - 1) / 2, between
        pixels where s is even, as with align_corners=False. Beyond the outermost points logits stay as they are there.
    strides: s of rows and of columns, in pixels.
    resize: what the picture went through first; strides are then those in the resized picture.
    spans: the grid's edges are the resized picture's, so that where the stride does not divide a side it is a bit less.
    """

    origin: Origin
    strides: tuple[Fraction, Fraction]
    resize: Resize | None = None
    spans: bool = False

    @property
    def stride(self) -> int:
        """Return s of a network, in pixels of the picture that it sees."""
        return int(self.strides[0])

    @property
    def extra(self) -> int:
        """Return how much longer a network's sides are than multiples of the stride, in pixels."""
        return 1 if self.origin == "aligned" else 0

    def points(self, pixels: int, axis: int = 0) -> int:
        """Return the least number of points that a side of `pixels` pixels needs."""
        return math.ceil((pixels - self.extra) / self.strides[axis]) + self.extra

    def valid_size(self, pixels: int, step: int) -> int:
        """Return the smallest k * step, and a pixel more if aligned, that is at least `pixels`."""
        return -(-(pixels - self.extra) // step) * step + self.extra

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the sides in pixels that the network sees of a picture of height x width."""
        return self.resize.of(height, width) if self.resize else (height, width)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of points of a picture of height x width pixels."""
        rows, columns = self.resized(height, width)
        return self.points(rows, 0), self.points(columns, 1)

    def over(self, height: int, width: int) -> "Geometry":
        """Return the strides in the picture itself, of height x width pixels, whatever it was resized to."""
        if self.resize is None:
            return self
        if self.spans:
            rows, columns = self.grid(height, width)
            strides = Fraction(height, rows), Fraction(width, columns)
        else:
            above, across = (max(side - self.extra, 1) for side in self.resized(height, width))
            strides = (
                self.strides[0] * max(height - self.extra, 1) / above,
                self.strides[1] * max(width - self.extra, 1) / across,
            )
        return Geometry(self.origin, strides)

    def axis(self, index: int, first: int, count: int) -> tuple[int, int, Axis]:
        """Place the pixels [first, first + count) of rows (index 0) or columns (1).

        Returns:
            The first and, exclusive, the last point that they need, not yet clamped; and where they lie behind it.
        """
        unit, step = self.strides[index].numerator, self.strides[index].denominator
        offset = step * first
        if self.origin == "half":  # (y + 1/2) / s - 1/2
            offset, step, unit = 2 * offset + step - unit, 2 * step, 2 * unit
        begin = max(offset // unit, 0)
        end = -(-(offset + step * (count - 1)) // unit) + 1
        return begin, end, Axis(step, offset - begin * unit, unit)


def aligned(stride: int, resize: Resize | None = None) -> Geometry:
    """Place point i on pixel stride * i, perhaps of a resized picture."""
    return Geometry("aligned", (Fraction(stride), Fraction(stride)), resize)


def half_pixels(stride: int, resize: Resize | None = None, *, spans: bool = False) -> Geometry:
    """Place point i in the middle of pixels stride * i to stride * (i + 1), perhaps of a resized picture."""
    return Geometry("half", (Fraction(stride), Fraction(stride)), resize, spans)
