"""What the parts report: figures, a row of the table each, and how well results agree with what they must equal."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.table import number

HEADER = ("what", "median", "least", "most", "unit", "share of the ceiling", "MiB at the peak")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Hold a measured figure.

    Attributes:
        what: was measured.
        values: one for each repetition.
        unit: of the values.
        share: of what the device does at best, in [0, 1]; None where there is no such ceiling.
        mebibytes: of the device's memory at the peak; None where it was not measured.
    """

    what: str
    values: Sequence[float]
    unit: str
    share: float | None = None
    mebibytes: float | None = None

    @property
    def median(self) -> float:
        """Return the value in the middle."""
        return median(self.values)

    def cells(self) -> tuple[str, ...]:
        """Format the figure under HEADER."""
        spread = (number(value) for value in (self.median, min(self.values), max(self.values)))
        optional = ("" if value is None else number(value) for value in (self.share, self.mebibytes))
        return (self.what, *spread, self.unit, *optional)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Say which share of the results is as it must be, and which share is asked for."""

    what: str
    same: float
    asked: float

    @property
    def holds(self) -> bool:
        """Tell whether the share is reached."""
        return self.same >= self.asked

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{'ok' if self.holds else 'WRONG'}: {self.what}: {self.same:.4%}, asked {self.asked:.4%}"
