"""The two ways to a model: `load` one that can segment, or `build` one to train."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline import storage
from pipeline.errors import ConfigError, WeightsError
from pipeline.masks import pascal_palette
from pipeline.models import zoo
from pipeline.models.architecture import ARCHITECTURES, Architecture
from pipeline.models.card import IMAGENET_PREPROCESSING, RESNET_CRF, VGG_CRF, ModelCard
from pipeline.models.checkpoints import native
from pipeline.models.checkpoints.reading import read
from pipeline.models.checkpoints.state import Backbone, Checkpoint, fill
from pipeline.models.deeplab import SegmentationModel

BUILT_IN = Path(__file__).parent / "weights"
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_RELEASED_CRF = {"vgg16": VGG_CRF, "resnet50": RESNET_CRF, "resnet101": RESNET_CRF}


def load(name_or_uri: str) -> SegmentationModel:
    """A model that can segment, in evaluation mode, on the CPU.

    Args:
        name_or_uri: a built-in name, a name of the zoo, or the path or URI of a weights file of any known layout.

    Raises:
        WeightsError: an unknown name, a file that cannot be read or is of no known layout, or a bare trunk.
    """
    found = _read(name_or_uri)
    if isinstance(found, Backbone):
        raise WeightsError(
            f"{storage.redact(name_or_uri)} holds a {found.trunk} trunk without a head, which cannot segment; "
            "train one on it with pipeline.models.build(..., trunk_weights=...)"
        )
    model = SegmentationModel(found.card)
    fill(model, found.state, name_or_uri)
    return model.eval()


def build(
    architecture: str | Architecture,
    classes: Sequence[str],
    *,
    name: str = "untrained",
    palette: Sequence[tuple[int, int, int]] | None = None,
    trunk_weights: str | None = None,
) -> SegmentationModel:
    """A model to train, in training mode: a new head on a trunk that is random or comes from other weights.

    Its card has the CRF parameters that the authors released for its trunk; a light trunk's are yet to be searched.

    Args:
        architecture: a name in ARCHITECTURES, or one of your own.
        classes: class names by class index.
        palette: an RGB colour for each class; the PASCAL VOC colours by default.
        trunk_weights: what `load` takes, or a backbone; it brings its preprocessing and, for a ResNet, its behaviour.

    Raises:
        ConfigError: no such architecture.
        WeightsError: the trunk's weights cannot be read, or are another trunk's.
    """
    if isinstance(architecture, str):
        if architecture not in ARCHITECTURES:
            raise ConfigError(f"no architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
        architecture = ARCHITECTURES[architecture]
    backbone = None
    if trunk_weights is not None:
        backbone = _backbone(trunk_weights, architecture)
        architecture = dataclasses.replace(architecture, resnet=backbone.resnet)
    colours = palette if palette is not None else pascal_palette(len(classes)).tolist()
    card = ModelCard(
        name=name,
        architecture=architecture,
        classes=tuple(classes),
        palette=tuple((int(red), int(green), int(blue)) for red, green, blue in colours),
        preprocessing=backbone.preprocessing if backbone else IMAGENET_PREPROCESSING,
        source=f"trunk from {PurePosixPath(storage.redact(trunk_weights)).name}" if trunk_weights else "none",
        crf=_RELEASED_CRF.get(architecture.trunk, {}),
    )
    model = SegmentationModel(card)
    if backbone is not None and trunk_weights is not None:
        fill(model.trunk, backbone.state, trunk_weights)
    return model


def built_in_names() -> list[str]:
    """Names of the models that are shipped with the package."""
    return sorted(path.stem for path in BUILT_IN.glob(f"*{native.SUFFIX}"))


def _backbone(trunk_weights: str, architecture: Architecture) -> Backbone:
    found = _read(trunk_weights)
    backbone = found.backbone() if isinstance(found, Checkpoint) else found
    if backbone.trunk != architecture.trunk:
        raise WeightsError(
            f"{storage.redact(trunk_weights)} holds a {backbone.trunk} trunk, but the network has {architecture.trunk}"
        )
    return backbone


def _read(name_or_uri: str) -> Checkpoint | Backbone:
    if name_or_uri in built_in_names():
        return read(str(BUILT_IN / (name_or_uri + native.SUFFIX)))
    if name_or_uri in zoo.ZOO:
        found = read(str(zoo.fetch(name_or_uri)))
        if isinstance(found, Backbone):
            return found
        return dataclasses.replace(found, card=zoo.ZOO[name_or_uri].describe(found.card, name_or_uri))
    if _NAME.fullmatch(name_or_uri) and not storage.exists(name_or_uri):
        known = ", ".join([*built_in_names(), *zoo.ZOO])
        raise WeightsError(f"no model is called {name_or_uri!r} and there is no such file; known names: {known}")
    return read(name_or_uri)
