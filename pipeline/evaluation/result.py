"""The result of an evaluation, as JSON and as a Markdown table."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.mask_counts import MaskCounts
from pipeline.evaluation.scorer import NETWORK, REFINED
from pipeline.evaluation.trimap import Band

_BANDS_SHOWN = (1, 2, 5, 10, 20, 40)
_LOSS = 0.0005
"""Of a picture's score, in 0..1: a loss below it is not counted, since it does not show in percent with one decimal."""

_MOST = 10
_KEY_ENDS = {NETWORK: "", REFINED: "_refined"}
_TITLES = {NETWORK: "network", REFINED: "refined"}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Holds the scores of the masks before and after refinement, in percent.

    Attributes:
        classes: names by class id.
        counts: of the network's masks and of the refined ones; one of them may be missing.
        band: where the trimap's bands begin.
        about: which masks were scored, on which pictures, and how: further entries of the JSON.
    """

    classes: tuple[str, ...]
    counts: dict[str, MaskCounts]
    band: Band
    about: dict[str, Any]

    def iou(self) -> dict[str, NDArray[np.float64]]:
        """Give the IoU of each class (C,), by the title of the masks; NaN for a class that nowhere occurs."""
        return {_TITLES[kind]: 100 * counts.score.iou for kind, counts in self.counts.items()}

    def trimap(self) -> dict[str, NDArray[np.float64]]:
        """Give the mean IoU in each band (WIDTHS,), by the title of the masks; NaN in an empty band."""
        return {_TITLES[kind]: 100 * counts.trimap.mean_iou for kind, counts in self.counts.items()}

    def to_json(self) -> str:
        """Give one line. Scores after refinement end in _refined; a score that does not exist is null."""
        scores: dict[str, Any] = {}
        for kind, end in _KEY_ENDS.items():
            counts = self.counts.get(kind)
            scores[f"mean_iou{end}"] = counts and _percent(counts.score.mean_iou)
            scores[f"pixel_accuracy{end}"] = counts and _percent(counts.score.pixel_accuracy)
            scores[f"iou{end}"] = counts and dict(zip(self.classes, _percents(counts.score.iou), strict=True))
            scores[f"trimap{end}"] = counts and _percents(counts.trimap.mean_iou)
            scores[f"border_f{end}"] = counts and _percent(_mean(counts.border_f))
            scores[f"border_f_by_class{end}"] = counts and dict(
                zip(self.classes, _percents(counts.border_f), strict=True)
            )
        return json.dumps(self.about | {"trimap_band": self.band} | scores | {"worse": self.worse()})

    def worse(self) -> dict[str, Any] | None:
        """Count the pictures that refinement made worse, by mean IoU and by border F-measure, in points.

        Returns:
            for each score the number of `pictures` that lost more than _LOSS, and the `most`: those that lost most,
            the worst first, as key and scores before and after; None where not both kinds of mask were scored.
        """
        if set(self.counts) != {NETWORK, REFINED}:
            return None
        before, after = self.counts[NETWORK].pictures, self.counts[REFINED].pictures
        return {
            score: _losses({key: (getattr(before[key], score), getattr(after[key], score)) for key in before})
            for score in ("iou", "border_f")
        }

    def to_markdown(self) -> str:
        """Make a table: a row for each class, their mean, the pixel accuracy, and the mean IoU in some of the bands."""
        columns = [
            [
                *_percents(counts.score.iou),
                _percent(counts.score.mean_iou),
                _percent(counts.score.pixel_accuracy),
                *_percents(counts.trimap.mean_iou[np.array(_BANDS_SHOWN) - 1]),
                _percent(_mean(counts.border_f)),
            ]
            for counts in self.counts.values()
        ]
        names = [
            *map(_escaped, self.classes),
            "**mean IoU**",
            "pixel accuracy",
            *(f"mean IoU within {w} px of {self.band}" for w in _BANDS_SHOWN),
            "border F-measure",
        ]
        head = [["IoU, %", *(_TITLES[kind] for kind in self.counts)], ["---", *("---:" for _ in self.counts)]]
        rows = [[name, *map(_cell, values)] for name, values in zip(names, zip(*columns, strict=True), strict=True)]
        return "".join(f"| {' | '.join(row)} |\n" for row in head + rows)


def _losses(scores: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    lost = {key: before - after for key, (before, after) in scores.items() if before - after > _LOSS}
    most = sorted(lost, key=lost.__getitem__, reverse=True)[:_MOST]
    return {"pictures": len(lost), "most": [[key, *_percents(scores[key])] for key in most]}


def _mean(values: NDArray[np.float64]) -> float:
    """Average over what is there; NaN where nothing is."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else math.nan


def _percent(share: float) -> float | None:
    return None if math.isnan(share) else round(100 * float(share), 2)


def _percents(shares: Sequence[float] | NDArray[np.float64]) -> list[float | None]:
    return [_percent(share) for share in shares]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _escaped(name: str) -> str:
    """Write a name so that its signs do not end a cell of a Markdown table."""
    return name.replace("\\", "\\\\").replace("|", "\\|")
