"""What a loader hands over, and how weights get into a network: all of them or none."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline import storage
from pipeline.errors import WeightsError
from pipeline.labels import class_names
from pipeline.masks import pascal_palette
from pipeline.models.architecture import Architecture, ResNetStyle, Trunk
from pipeline.models.card import MAX_CLASSES, SINGLE_SCALE, ModelCard, Preprocessing

NAMED_KEYS = 3
_COUNTER = "num_batches_tracked"  # training's counter; plays no part in the scores

State = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A trunk's weights without a head that segments: what training starts from."""

    trunk: Trunk
    resnet: ResNetStyle | None
    preprocessing: Preprocessing
    state: State


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole model: its card, and its weights under the names of this project's own networks."""

    card: ModelCard
    state: State

    def backbone(self) -> Backbone:
        """The trunk of this model."""
        architecture = self.card.architecture
        return Backbone(
            trunk=architecture.trunk,
            resnet=architecture.resnet,
            preprocessing=self.card.preprocessing,
            state=below(self.state, "trunk."),
        )


def card_of(
    *,
    name: str,
    architecture: Architecture,
    classes: int,
    preprocessing: Preprocessing,
    crf: Mapping[str, int],
    scales: tuple[float, ...] = SINGLE_SCALE,
) -> ModelCard:
    """The card of a file that holds none: class names by their count, the PASCAL VOC colours. Raises WeightsError."""
    if not 1 <= classes <= MAX_CLASSES:
        raise WeightsError(f"the head has {classes} classes; masks can hold 1 to {MAX_CLASSES}")
    palette = tuple((red, green, blue) for red, green, blue in pascal_palette(classes).tolist())
    return ModelCard(
        name=name,
        architecture=architecture,
        classes=class_names(classes),
        palette=palette,
        preprocessing=preprocessing,
        crf=dict(crf),
        scales=scales,
    )


def below(state: State, prefix: str) -> dict[str, Tensor]:
    """The entries whose key starts with the prefix, under the rest of their key."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


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
        told = "; ".join(f"{len(keys)} {fault} ({named(keys)})" for fault, keys in faults.items() if keys)
        raise WeightsError(f"the weights {storage.redact(origin)} do not fit the network: {told}")
    network.load_state_dict(given, strict=False)


def named(keys: list[str]) -> str:
    """The first few of the keys, for a message."""
    return ", ".join(keys[:NAMED_KEYS]) + (", ..." if len(keys) > NAMED_KEYS else "")
