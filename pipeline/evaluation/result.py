"""What an evaluation found, as JSON and as a Markdown table."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.mask_counts import MaskCounts
from pipeline.evaluation.scorer import NETWORK, REFINED
from pipeline.evaluation.trimap import Band

_BANDS_SHOWN = (1, 2, 5, 10, 20, 40)
_KEY_ENDS = {NETWORK: "", REFINED: "_refined"}
_TITLES = {NETWORK: "network", REFINED: "with the CRF"}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of the masks before and after the CRF, in percent.

    Attributes:
        classes: names by class id.
        tallies: what was counted of the network's masks and of the refined ones; one of them may be missing.
        band: what the trimap's bands grow from.
        about: what was scored, on what, and how: further entries of the JSON.
    """

    classes: tuple[str, ...]
    tallies: dict[str, MaskCounts]
    band: Band
    about: dict[str, Any]

    def iou(self) -> dict[str, NDArray[np.float64]]:
        """Of each class (C,), by the title of the masks; NaN for a class that nowhere occurs."""
        return {_TITLES[kind]: 100 * counts.score.iou for kind, counts in self.tallies.items()}

    def trimap(self) -> dict[str, NDArray[np.float64]]:
        """Mean IoU in each band (WIDTHS,), by the title of the masks; NaN in an empty band."""
        return {_TITLES[kind]: 100 * counts.trimap.mean_iou for kind, counts in self.tallies.items()}

    def to_json(self) -> str:
        """One line. What was scored after the CRF ends in _refined; what was not scored, or occurs nowhere, is null."""
        known: dict[str, Any] = {}
        for kind, end in _KEY_ENDS.items():
            counts = self.tallies.get(kind)
            known[f"mean_iou{end}"] = counts and _percent(counts.score.mean_iou)
            known[f"pixel_accuracy{end}"] = counts and _percent(counts.score.pixel_accuracy)
            known[f"iou{end}"] = counts and dict(zip(self.classes, _percents(counts.score.iou), strict=True))
            known[f"trimap{end}"] = counts and _percents(counts.trimap.mean_iou)
        return json.dumps(self.about | {"trimap_band": self.band} | known)

    def to_markdown(self) -> str:
        """A table: a row for each class, their mean, the pixel accuracy, and the mean IoU in some of the bands."""
        columns = [
            [
                *_percents(counts.score.iou),
                _percent(counts.score.mean_iou),
                _percent(counts.score.pixel_accuracy),
                *_percents(counts.trimap.mean_iou[np.array(_BANDS_SHOWN) - 1]),
            ]
            for counts in self.tallies.values()
        ]
        names = [
            *self.classes,
            "**mean IoU**",
            "pixel accuracy",
            *(f"mean IoU within {w} px of {self.band}" for w in _BANDS_SHOWN),
        ]
        head = [["IoU, %", *(_TITLES[kind] for kind in self.tallies)], ["---", *("---:" for _ in self.tallies)]]
        rows = [[name, *map(_cell, values)] for name, values in zip(names, zip(*columns, strict=True), strict=True)]
        return "".join(f"| {' | '.join(row)} |\n" for row in head + rows)


def _percent(share: float) -> float | None:
    return None if math.isnan(share) else round(100 * float(share), 2)


def _percents(shares: Sequence[float] | NDArray[np.float64]) -> list[float | None]:
    return [_percent(share) for share in shares]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
