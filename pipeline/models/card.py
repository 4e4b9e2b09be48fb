"""The model card: everything about a model that its weights alone do not say."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from pipeline.errors import ConfigError, WeightsError
from pipeline.models.architecture import Architecture, ResNetStyle

_ROUNDING = 1e-5  # a third is written with six digits or more
MAX_CLASSES = 256  # a mask is 8-bit


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """(pixel - mean) / std, both in units of 0-255 and in the network's own channel order."""

    channels: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.channels not in ("RGB", "BGR"):
            raise ConfigError(f"channels is {self.channels!r}; it must be 'RGB' or 'BGR'")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(f"mean {self.mean} and std {self.std} must be three numbers each, std above 0")


CAFFE_PREPROCESSING = Preprocessing(channels="BGR", mean=(104.008, 116.669, 122.675))
IMAGENET_PREPROCESSING = Preprocessing(channels="RGB", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
LITE_PREPROCESSING = Preprocessing(channels="RGB", mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))

SINGLE_SCALE = (1.0,)
MAX_SCALE = 2.0
MAX_DENOMINATOR = 16
MULTI_SCALE = (0.5, 0.75, 1.0)

# CRF parameters that the authors released with each network
RESNET_CRF = {"gaussian_weight": 3, "gaussian_xy": 1, "bilateral_weight": 4, "bilateral_xy": 67, "bilateral_rgb": 3}
VGG_CRF = {"gaussian_weight": 2, "gaussian_xy": 2, "bilateral_weight": 4, "bilateral_xy": 65, "bilateral_rgb": 3}


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What travels with a model's weights.

    classes, palette: one name and one RGB colour for each class index.
    licence, training_split, source: of the weights: on what terms, from which pictures, from where.
    scores: what was measured with these weights, such as {"VOC 2012 val mean IoU": 76.65}.
    crf: keyword arguments of `pipeline.refine.crf.CRFParams` that suit this model.
    scales: image scales whose scores are fused by maximum; (1.0,) is a single pass.
    """

    name: str
    architecture: Architecture
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    preprocessing: Preprocessing
    licence: str = "unknown"
    training_split: str = "none"
    source: str = "none"
    scores: Mapping[str, float] = field(default_factory=dict)
    crf: Mapping[str, float | int | str] = field(default_factory=dict)
    scales: tuple[float, ...] = SINGLE_SCALE

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise ConfigError(f"a model has 1 to {MAX_CLASSES} classes, not {len(self.classes)}")
        if len(self.palette) != len(self.classes):
            raise ConfigError(f"{len(self.palette)} palette colours for {len(self.classes)} classes")
        if any(len(colour) != 3 or not all(0 <= value <= 255 for value in colour) for colour in self.palette):
            raise ConfigError("each palette colour must be three numbers from 0 to 255")
        check_scales(self.scales)

    def behaviour(self) -> dict[str, Any]:
        """The part that decides what the weights compute, as plain JSON types."""
        plain = dataclasses.asdict(self)
        return {key: plain[key] for key in ("architecture", "classes", "preprocessing", "scales")}

    def to_dict(self) -> dict[str, Any]:
        """The card as plain JSON types."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "ModelCard":
        """The card that `to_dict` wrote. Raises WeightsError when a field is missing, unknown or out of range."""
        try:
            fields = {key: _tuples(value) for key, value in plain.items()}
            resnet = fields["architecture"].pop("resnet")
            fields["architecture"]["resnet"] = ResNetStyle(**resnet) if resnet else None
            fields["architecture"] = Architecture(**fields["architecture"])
            fields["preprocessing"] = Preprocessing(**fields["preprocessing"])
            return cls(**fields)
        except (ConfigError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"this is not a model card: {type(error).__name__}: {error}") from error


def check_scales(scales: tuple[float, ...]) -> None:
    """Raise ConfigError unless there is a scale and each is above 0, at most 2 and a fraction of few parts.

    A scale s must keep grid points in place: sizes of the picture are chosen so that s times a size is whole.
    """
    if not scales or not all(0 < scale <= MAX_SCALE for scale in scales):
        raise ConfigError(f"scales are {scales}; give at least one, each above 0 and at most {MAX_SCALE:g}")
    for scale in scales:
        nearest = Fraction(scale).limit_denominator(MAX_DENOMINATOR)
        if abs(nearest - Fraction(scale)) > _ROUNDING:
            raise ConfigError(
                f"the scale {scale} is no fraction with a denominator up to {MAX_DENOMINATOR}; "
                f"the nearest is {nearest}, {float(nearest):.6g}"
            )


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
