"""Plots of scores, as encoded PNGs."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COLOURS = ("#9aa3ad", "#1f6fb4")
INK = "#3a3f45"
_BAND_NAMES = {"void": "the void band", "borders": "the borders between labels"}


def class_bars(classes: Sequence[str], iou: Mapping[str, Floats]) -> bytes:
    """Draw horizontal bars of the IoU of each class, as an encoded PNG.

    Args:
        classes: names of the C classes.
        iou: (C,) in percent, by the title of what was scored, two at most; no bar for NaN.
    """
    figure, axes = _figure(7.0, 1.3 + 0.36 * len(classes))
    places = np.arange(len(classes))
    height = 0.8 / len(iou)
    for n, (title, values) in enumerate(iou.items()):
        mean = float(np.nanmean(values))
        below = places + (n - (len(iou) - 1) / 2) * height
        axes.barh(below, np.nan_to_num(values), height, color=_colour(n, len(iou)), label=f"{title}, mean {mean:.1f}")
        axes.axvline(mean, color=_colour(n, len(iou)), linestyle=":", linewidth=1)
    axes.set_yticks(places, classes, parse_math=False)  # a name may have dollars in it
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("IoU, %")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    return png(figure)


def trimap_curve(mean_iou: Mapping[str, Floats], band: str) -> bytes:
    """Draw the mean IoU within bands of growing width, as an encoded PNG.

    Args:
        mean_iou: (W,) in percent for the widths 1 .. W, by the title of what was scored, two at most.
        band: what the bands grow from, void or borders.
    """
    figure, axes = _figure(7.0, 4.2)
    for n, (title, values) in enumerate(mean_iou.items()):
        axes.plot(np.arange(1, len(values) + 1), values, color=_colour(n, len(mean_iou)), label=title, linewidth=2)
        axes.set_xlim(1, len(values))
    axes.set_xlabel(f"width of the band along {_BAND_NAMES[band]}, pixels")
    axes.set_ylabel("mean IoU, %")
    axes.grid(color="#e4e6e8")
    axes.legend(loc="lower right", frameon=False)
    return png(figure)


def _colour(index: int, count: int) -> str:
    return COLOURS[index if count > 1 else 1]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure of one plot, `width` x `height` inches. Not by pyplot, which keeps every figure it has made."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    return figure, axes


def png(figure: Figure) -> bytes:
    """Encode the figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
