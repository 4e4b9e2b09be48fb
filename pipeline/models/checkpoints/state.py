"""Hold what a loader hands over, and fill weights into a network: all of them or none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline import storage
from pipeline.errors import WeightsError
from pipeline.labels import class_names
from pipeline.masks import pascal_palette
from pipeline.models.architecture import Architecture
from pipeline.models.backbones import BackboneOptions
from pipeline.models.card import MAX_CLASSES, ModelCard
from pipeline.models.preprocessing import Preprocessing
from pipeline.models.scales import SINGLE_SCALE

NAMED_KEYS = 3
_COUNTER = "num_batches_tracked"  # training's counter; plays no part in the logits

State = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class BackboneWeights:
    """Hold a backbone's weights without a head that segments: what training starts from."""

    backbone: str
    options: BackboneOptions | None
    preprocessing: Preprocessing
    state: State


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Hold a whole model: its card, and its weights under the names of this project's own networks.

    names_classes: whether the file, or who published it, names the classes; else their number alone did.
    """

    card: ModelCard
    state: State
    names_classes: bool = False

    def backbone_weights(self) -> BackboneWeights:
        """Return the part of this model that is its backbone's."""
        architecture = self.card.architecture
        return BackboneWeights(
            backbone=architecture.backbone,
            options=architecture.options,
            preprocessing=self.card.preprocessing,
            state=below(self.state, "backbone."),
        )


def assembled(
    *,
    name: str,
    architecture: Architecture,
    preprocessing: Preprocessing,
    backbone: State,
    head: State,
    classifier: str = "classifier.weight",
) -> Checkpoint:
    """Put a model together whose file holds no card.

    Args:
        name: of the layout and its head; the backbone's is added.
        architecture: of the network.
        preprocessing: that the weights were trained with.
        backbone: its weights, by this project's names within a backbone.
        head: its weights likewise.
        classifier: of the head, the weight with a row for each class.

    Raises:
        WeightsError: the head has too few classes, or too many.
    """
    card = card_of(
        name=f"{name} {architecture.backbone}",
        architecture=architecture,
        classes=head[classifier].shape[:1].numel() if classifier in head else 0,
        preprocessing=preprocessing,
    )
    parts = {"backbone": backbone, "head": head}
    return Checkpoint(card=card, state={f"{part}.{key}": value for part in parts for key, value in parts[part].items()})


def card_of(
    *,
    name: str,
    architecture: Architecture,
    classes: int,
    preprocessing: Preprocessing,
    scales: tuple[float, ...] = SINGLE_SCALE,
) -> ModelCard:
    """Make the card of a file that holds none. Raises WeightsError.

    The classes are named by their count, in the PASCAL VOC colours; the CRF is the one released with the backbone.
    """
    if classes == 1:
        raise WeightsError(
            "the head has one output channel, and the softmax of one value is 1 everywhere; put zeros for a background "
            "in front of its weight and bias along axis 0: the softmax of (0, z) is the sigmoid of z"
        )
    if not 2 <= classes <= MAX_CLASSES:
        raise WeightsError(f"the head has {classes} classes; masks can hold 2 to {MAX_CLASSES}")
    palette = tuple((red, green, blue) for red, green, blue in pascal_palette(classes).tolist())
    return ModelCard(
        name=name,
        architecture=architecture,
        classes=class_names(classes),
        palette=palette,
        preprocessing=preprocessing,
        crf=dict(architecture.backbone_type.released_crf),
        scales=scales,
    )


def below(state: State, prefix: str) -> dict[str, Tensor]:
    """Return the entries whose key starts with the prefix, under the rest of their key."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def with_background(state: State, network: nn.Module, classifiers: Iterable[nn.Module]) -> State:
    """Make a sigmoid head one of two classes, where the network has two and the weights have one output channel.

    The logits of the first class, the background, are 0: the softmax of (0, z) is the sigmoid of z.

    Args:
        state: of the whole network.
        network: has been built for the classes of its card.
        classifiers: its layers that give the logits.
    """
    giving_logits = {id(parameter) for layer in classifiers for parameter in layer.parameters()}
    names = [name for name, parameter in network.named_parameters() if id(parameter) in giving_logits]
    expected = network.state_dict()
    if not all(len(expected[name]) == 2 and state[name].shape[:1] == (1,) for name in names if name in state):
        return state
    return {**state, **{n: torch.cat([torch.zeros_like(state[n]), state[n]]) for n in names if n in state}}


def fill(network: nn.Module, state: State, origin: str) -> None:
    """Copy weights into the network, cast to its own dtype. `origin` is their name or URI, for messages.

    Raises:
        WeightsError: a key is missing, unexpected or of another shape; the network is then unchanged.
    """
    expected = {key: value for key, value in network.state_dict().items() if not key.endswith(_COUNTER)}
    given = {key: value for key, value in state.items() if not key.endswith(_COUNTER)}
    misshaped = [
        f"{key} is {tuple(given[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & given.keys())
        if given[key].shape != expected[key].shape
    ]
    faults = {
        "missing": sorted(expected.keys() - given.keys()),
        "unexpected": sorted(given.keys() - expected.keys()),
        "of another shape": misshaped,
    }
    if any(faults.values()):
        listing = "; ".join(f"{len(keys)} {fault} ({named(keys)})" for fault, keys in faults.items() if keys)
        raise WeightsError(f"the weights {storage.redact(origin)} do not fit the network: {listing}")
    network.load_state_dict(given, strict=False)


def named(keys: list[str]) -> str:
    """Join the first few of the keys, for a message."""
    return ", ".join(keys[:NAMED_KEYS]) + (", ..." if len(keys) > NAMED_KEYS else "")
