"""A heat map of a search for CRF parameters."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from pipeline.reports.plots import INK, png

_PANELS_A_ROW = 2
_DARK_BELOW = 0.6


def heat_map(mean_iou: Mapping[tuple[float, ...], float], axes: Sequence[Sequence[float]]) -> bytes:
    """Draw a panel for each sigma beta: w1 downwards, sigma alpha to the right, the best cell outlined, untried blank.

    Args:
        mean_iou: in percent, by (w1, sigma alpha, sigma beta), of the points that were tried, in that order.
        axes: all values of the three.

    Returns:
        An encoded PNG.
    """
    weights, spatial, colour = axes
    table = np.full([len(axis) for axis in axes], np.nan)  # (w1, sigma alpha, sigma beta)
    for point, score in mean_iou.items():
        table[tuple(axis.index(value) for axis, value in zip(axes, point, strict=True))] = score
    highest = max(mean_iou, key=lambda point: mean_iou[point])  # of equals the first that was tried
    best = tuple(axis.index(value) for axis, value in zip(axes, highest, strict=True))
    across = min(len(colour), _PANELS_A_ROW)
    down = math.ceil(len(colour) / across)
    size = (across * (1.2 + 0.55 * len(spatial)), down * (1.0 + 0.4 * len(weights)))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    low, high = np.nanmin(table), np.nanmax(table)
    for n, panel in enumerate(panels):
        if n >= len(colour):
            panel.set_visible(False)
            continue
        _draw(panel, table[:, :, n], low, high)
        panel.set_title(f"sigma beta {colour[n]:g}", fontsize=9, color=INK)
        panel.set_xticks(range(len(spatial)), [f"{value:g}" for value in spatial])
        panel.set_yticks(range(len(weights)), [f"{value:g}" for value in weights])
        panel.set_xlabel("sigma alpha, pixels", fontsize=8)
        panel.set_ylabel("w1", fontsize=8)
        if n == best[2]:
            panel.add_patch(
                Rectangle((best[1] - 0.5, best[0] - 0.5), 1, 1, fill=False, edgecolor="#d1242f", linewidth=2)
            )
    figure.suptitle(f"mean IoU, %; the best is {high:.2f}", fontsize=10, color=INK)
    return png(figure)


def _draw(panel: Axes, cells: NDArray[np.float64], low: float, high: float) -> None:
    """Draw the cells (w1, sigma alpha) as colours from `low` to `high`, and in numbers."""
    panel.imshow(np.ma.masked_invalid(cells), cmap="viridis", vmin=low, vmax=high, aspect="auto")
    panel.tick_params(labelsize=7, colors=INK)
    for (row, column), value in np.ndenumerate(cells):
        if not np.isnan(value):
            dark = high > low and (value - low) / (high - low) < _DARK_BELOW
            panel.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=6, color="w" if dark else "k")
