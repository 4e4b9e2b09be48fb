"""Configure a search of CRF parameters: the flags of `deeplab-buckets search-crf` and the fields of its YAML."""

import itertools
import math
from dataclasses import dataclass, field, replace

from pipeline import storage
from pipeline.data.formats.column_flags import LabelledColumnFlags
from pipeline.data.labelled import Layout
from pipeline.errors import ConfigError
from pipeline.models.inference import Inference
from pipeline.models.smp_config import SmpConfig
from pipeline.refine.crf import CRFParams
from pipeline.storage import StorageConfig, Uri

SEARCHED = ("bilateral_weight", "bilateral_xy", "bilateral_rgb")
"""The fields of CRFParams, and of SearchConfig, that are searched, in the order of a point's values."""

_MOST_STEPS = 100

Range = tuple[float, float, float]
"""The lowest value, the highest, which is tried even where no step hits it, and the step between them."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig(StorageConfig, LabelledColumnFlags):
    """Search the dense CRF's parameters for a model, coarse to fine, on labelled pictures.

    Args:
        data: folder or prefix of the labelled pictures; a path or URI.
        data_format: how they lie there.
        model: a built-in name, a name of the zoo, or the path or URI of a weights file.
        output: folder or prefix for crf.yaml, which --config of the other jobs takes, and crf.png.
        split: the pictures to search on: not those a result is to be measured on.
        images: how many of them, spread evenly over the split.
        classes: names by class id; without, those of the data set that the format is named after, else the model's.
        bilateral_weight: the lowest w1, the highest and the step between.
        bilateral_xy: likewise sigma alpha, in pixels.
        bilateral_rgb: likewise sigma beta, in levels of 0..255.
        gaussian_weight: w2, which is not searched.
        gaussian_xy: sigma gamma in pixels, which is not searched.
        label_costs: costs that are tried for one label after another, at the best of the rest; none to search no costs.
        inference: how the network is run.
        smp: what a state dict of segmentation_models_pytorch is of.
    """

    data: Uri
    data_format: Layout
    model: Uri
    output: Uri
    split: str = "val"
    images: int = 100
    classes: tuple[str, ...] | None = None
    bilateral_weight: Range = (3.0, 6.0, 1.0)
    bilateral_xy: Range = (30.0, 100.0, 10.0)
    bilateral_rgb: Range = (3.0, 6.0, 1.0)
    gaussian_weight: float = 3.0
    gaussian_xy: float = 3.0
    label_costs: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)
    inference: Inference = field(default_factory=Inference)
    smp: SmpConfig = field(default_factory=SmpConfig)

    def __post_init__(self) -> None:
        """Raise ConfigError for a range that holds nothing, or values that no CRF can have."""
        super().__post_init__()
        if self.images < 1:
            raise ConfigError(f"images is {self.images}; give the number of pictures to search on, at least 1")
        for name in SEARCHED:
            low, high, step = getattr(self, name)
            if not (low <= high and step > 0):
                raise ConfigError(
                    f"{name} is [{low:g}, {high:g}, {step:g}]; give the lowest value, the highest and the step between"
                )
            if (high - low) / step > _MOST_STEPS:
                raise ConfigError(
                    f"{name} is [{low:g}, {high:g}, {step:g}], which is {(high - low) / step:.3g} steps; "
                    f"give a step that makes at most {_MOST_STEPS}"
                )
        CRFParams(label_costs=self.label_costs)  # has their range
        for corner in itertools.product(*((axis[0], axis[-1]) for axis in self.axes())):
            self.params(corner)

    def axes(self) -> list[list[float]]:
        """List the values of each searched parameter: from the lowest in steps, and the highest."""
        return [_values(*getattr(self, name)) for name in SEARCHED]

    def params(self, point: tuple[float, ...]) -> CRFParams:
        """Give the CRF's parameters at a point of the grid. Raises ConfigError for values that no CRF can have."""
        weight, xy, rgb = point
        return CRFParams(
            gaussian_weight=self.gaussian_weight,
            gaussian_xy=self.gaussian_xy,
            bilateral_weight=weight,
            bilateral_xy=xy,
            bilateral_rgb=rgb,
        )

    def resolved(self) -> "SearchConfig":
        """Give the same search with paths that mean the same on every machine."""
        return replace(self, data=Uri(storage.normalize(self.data)), output=Uri(storage.normalize(self.output)))


def _values(low: float, high: float, step: float) -> list[float]:
    values = [low + n * step for n in range(math.floor((high - low) / step + 1e-9) + 1)]
    return [*values, high] if high - values[-1] > 1e-9 * step else values
