"""Load a model that can segment, or build one to train."""

import dataclasses
import logging
import os.path
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TypeVar

from pipeline import storage
from pipeline.errors import ConfigError, StorageError, WeightsError
from pipeline.masks import pascal_palette
from pipeline.models import zoo
from pipeline.models.adapters import adapter_for
from pipeline.models.architecture import ARCHITECTURES, Architecture, full_name
from pipeline.models.built_in import BUILT_IN, built_in_names
from pipeline.models.card import Card, ModelCard
from pipeline.models.checkpoints import native
from pipeline.models.checkpoints.reading import read
from pipeline.models.checkpoints.state import BackboneWeights, Checkpoint, fill, with_background
from pipeline.models.class_card import EXAMPLE, card_beside
from pipeline.models.deeplab import SegmentationModel
from pipeline.models.network import Network
from pipeline.models.smp_config import SmpConfig

_NAME = re.compile(r"[A-Za-z0-9_-]+")

log = logging.getLogger(__name__)
AnyCard = TypeVar("AnyCard", bound=Card)


def load(
    name_or_uri: str,
    classes: Sequence[str] | None = None,
    smp: SmpConfig | None = None,
    *,
    unnamed: Sequence[str] | None = None,
) -> Network:
    """Load a model that can segment, in evaluation mode, on the CPU.

    Args:
        name_or_uri: a built-in name, a name of the zoo, the path or URI of a weights file of any known layout, or what
            an adapter of another framework reads.
        classes: names by class index, in place of those of the weights.
        smp: what a state dict of segmentation_models_pytorch is of, in place of a card beside it.
        unnamed: names by class index for weights that have none.

    Raises:
        ConfigError: the names are more or fewer than the weights have, or `smp` is for what is no state dict.
        WeightsError: an unknown name, a file that cannot be read or is of no known layout, or a backbone alone.
    """
    if adapter := adapter_for(name_or_uri, smp):
        network = adapter.open(name_or_uri)
        network.card = _with_names(network.card, classes)
        return network
    weights = _read(name_or_uri)
    if isinstance(weights, BackboneWeights):
        raise WeightsError(
            f"{storage.redact(name_or_uri)} holds a {weights.backbone} backbone without a head, which cannot segment; "
            "train one on it with pipeline.models.build(..., backbone_weights=...)"
        )
    if not weights.names_classes:
        weights = _with_card(weights, name_or_uri, named=classes is not None)
    if classes is None and not weights.names_classes:
        classes = unnamed
    if classes is None and not weights.names_classes:
        log.warning(
            "%s does not name its classes: by their number, %d, they are called %s, %s, ...; give them other "
            "names with --classes, or in a card beside it",
            storage.redact(name_or_uri),
            len(weights.card.classes),
            *weights.card.classes[:2],
        )
    model = SegmentationModel(_with_names(weights.card, classes))
    fill(model, with_background(weights.state, model, model.head.classifiers()), name_or_uri)
    return model.eval()


def _with_card(weights: Checkpoint, uri: str, named: bool) -> Checkpoint:
    """Put on what a card beside the file says, where there is one. Raises WeightsError.

    Classes that a person has `named` need no card: a storage may refuse what is not there.
    """
    try:
        says = card_beside(uri)
    except StorageError as error:
        if named:
            return weights
        raise WeightsError(
            f"whether a card beside {storage.redact(uri)} names its classes is not known: {error}; name them with "
            f"--classes, or put a card there, for example {EXAMPLE}"
        ) from error
    if says is None:
        return weights
    try:
        card = _with_names(weights.card, says.classes)
    except ConfigError as error:
        raise WeightsError(f"the card beside {storage.redact(uri)} is of other weights: {error}") from error
    card = dataclasses.replace(card, licence=says.licence, training_split=says.training_split)
    return dataclasses.replace(weights, card=card, names_classes=True)


def _with_names(card: AnyCard, classes: Sequence[str] | None) -> AnyCard:
    """Put other class names onto a card. Raises ConfigError where they are more or fewer than it has."""
    if classes is None:
        return card
    if len(classes) != len(card.classes):
        raise ConfigError(f"{len(classes)} classes are named, and {card.name} has {len(card.classes)}")
    return dataclasses.replace(card, classes=tuple(classes))


def build(
    architecture: str | Architecture,
    classes: Sequence[str],
    *,
    name: str = "untrained",
    palette: Sequence[tuple[int, int, int]] | None = None,
    backbone_weights: str | None = None,
) -> SegmentationModel:
    """Build a model to train, in training mode: a new head on a backbone that is random or comes from other weights.

    Its card has the CRF parameters that were released for its backbone; a light backbone's are yet to be searched.

    Args:
        architecture: a name in SHORT_NAMES or ARCHITECTURES, or one of your own.
        classes: class names by class index.
        palette: an RGB colour for each class; the PASCAL VOC colours by default.
        backbone_weights: what `load` takes, or a backbone alone; it brings its preprocessing and its options.

    Raises:
        ConfigError: no such architecture.
        WeightsError: the backbone's weights cannot be read, or are another backbone's.
    """
    if isinstance(architecture, str):
        architecture = ARCHITECTURES[full_name(architecture)]
    weights = None
    if backbone_weights is not None:
        weights = _backbone(backbone_weights, architecture)
        architecture = dataclasses.replace(architecture, options=weights.options)
    colours = palette if palette is not None else pascal_palette(len(classes)).tolist()
    card = ModelCard(
        name=name,
        architecture=architecture,
        classes=tuple(classes),
        palette=tuple((int(red), int(green), int(blue)) for red, green, blue in colours),
        preprocessing=weights.preprocessing if weights else architecture.backbone_type.preprocessing,
        source=f"backbone from {PurePosixPath(storage.redact(backbone_weights)).name}" if backbone_weights else "none",
        crf=architecture.backbone_type.released_crf,
    )
    model = SegmentationModel(card)
    if weights is not None and backbone_weights is not None:
        fill(model.backbone, weights.state, backbone_weights)
    return model


def _backbone(name_or_uri: str, architecture: Architecture) -> BackboneWeights:
    weights = _read(name_or_uri)
    if isinstance(weights, Checkpoint):
        weights = weights.backbone_weights()
    if weights.backbone != architecture.backbone:
        raise WeightsError(
            f"{storage.redact(name_or_uri)} holds a {weights.backbone} backbone, "
            f"but the network has {architecture.backbone}"
        )
    return weights


def _read(name_or_uri: str) -> Checkpoint | BackboneWeights:
    if name_or_uri in built_in_names():
        return read(str(BUILT_IN / (name_or_uri + native.SUFFIX)))
    if name_or_uri in zoo.ZOO:
        weights = read(str(zoo.fetch(name_or_uri)))
        if isinstance(weights, BackboneWeights):
            return weights
        card = zoo.ZOO[name_or_uri].describe(weights.card, name_or_uri)
        return dataclasses.replace(weights, card=card, names_classes=True)
    if _NAME.fullmatch(name_or_uri) and not storage.exists(name_or_uri):
        names = ", ".join([*built_in_names(), *zoo.ZOO])
        raise WeightsError(f"no model is called {name_or_uri!r} and there is no such file; known names: {names}")
    if os.path.isdir(name_or_uri):  # Path's own raises for a name that is too long
        raise WeightsError(
            f"{name_or_uri} is a folder, and it has no config.json with a model_type, as transformers writes it, or an "
            "encoder_name, as segmentation_models_pytorch does; for weights of another kind give the file itself"
        )
    return read(name_or_uri)
