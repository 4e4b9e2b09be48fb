"""Describe a model: everything about it that its weights alone do not say."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import ConfigError, WeightsError
from pipeline.labels import check_class_names
from pipeline.models.architecture import Architecture
from pipeline.models.plain import build
from pipeline.models.preprocessing import Preprocessing
from pipeline.models.scales import SINGLE_SCALE, Fusion, check_scales
from pipeline.models.stored_names import stored_architecture
from pipeline.numbers import is_number
from pipeline.refine.crf.params import CRFParams

MAX_CLASSES = 256  # a mask is 8-bit


@dataclass(frozen=True, kw_only=True)
class Card:
    """Hold what travels with a network's weights, whichever framework it is of.

    classes, palette: one name and one RGB colour for each class index.
    licence, training_split, source: of the weights: on what terms, from which pictures, from where.
    scores: what was measured with these weights, such as {"VOC 2012 val mean IoU": 76.65}.
    crf: keyword arguments of `pipeline.refine.crf.CRFParams` that suit this model.
    scales: image scales whose logits are fused; (1.0,) is a single pass.
    fusion: how they are, see `multiscale.fused_logits`.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    preprocessing: Preprocessing
    licence: str = "unknown"
    training_split: str = "none"
    source: str = "none"
    scores: Mapping[str, float] = field(default_factory=dict)
    crf: Mapping[str, float | int | str | tuple[float, ...]] = field(default_factory=dict)
    scales: tuple[float, ...] = SINGLE_SCALE
    fusion: Fusion = "maximum"

    def __post_init__(self) -> None:
        check_class_names(self.classes)
        if not 2 <= len(self.classes) <= MAX_CLASSES:
            raise ConfigError(
                f"a model has 2 to {MAX_CLASSES} classes, not {len(self.classes)}; where one is told from all else, "
                "name that too, as in: background, road"
            )
        if len(self.palette) != len(self.classes):
            raise ConfigError(f"{len(self.palette)} palette colours for {len(self.classes)} classes")
        if any(len(colour) != 3 or not all(0 <= value <= 255 for value in colour) for colour in self.palette):
            raise ConfigError("each palette colour must be three numbers from 0 to 255")
        check_scales(self.scales)
        build(CRFParams, self.crf, "crf").check_labels(len(self.classes))
        for name, score in self.scores.items():
            if not is_number(score):
                raise ConfigError(f"the score {name!r} is {score}; give a finite number")


@dataclass(frozen=True, kw_only=True)
class ModelCard(Card):
    """Hold what travels with the weights of a network of this project's own: its architecture, too."""

    architecture: Architecture

    def behaviour(self) -> dict[str, Any]:
        """Return the part that decides what the weights compute, as plain JSON types."""
        decisive = ("architecture", "classes", "preprocessing", "scales", "fusion")
        return {key: value for key, value in self.to_dict().items() if key in decisive}

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain JSON types, under the names that are stored."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        if self.fusion == "maximum":  # as it was before cards said so, by whose digests outputs are matched
            del plain["fusion"]
        return plain | {"architecture": stored_architecture(plain["architecture"])}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "ModelCard":
        """Read a card that `to_dict` wrote, or a person.

        Raises:
            WeightsError: a field is missing, unknown, of another type or out of range.
        """
        try:
            check_class_names(plain.get("classes", ()))
            parts = {
                "architecture": Architecture.from_plain(plain.get("architecture")),
                "preprocessing": build(Preprocessing, plain.get("preprocessing"), "preprocessing"),
            }
            return build(cls, {**plain, **parts}, "card")
        except ConfigError as error:
            raise WeightsError(f"this is not a model card: {error}") from error
