"""The one table that a benchmark prints: Markdown, readable as plain text too."""

from collections.abc import Sequence
from statistics import median


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is aligned to the left and every other one to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| " + " | ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]) + " |"
        for cells in (header, rule, *rows)
    )


def number(value: float) -> str:
    """Three significant digits, more where they stand before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> tuple[str, str, str]:
    """The median, the least and the most."""
    return number(median(values)), number(min(values)), number(max(values))
