"""Run networks of segmentation_models_pytorch: folders of save_pretrained, and state dicts with a card beside them.

A folder may have a card.json that names the classes; without it they are numbered. A state dict, NAME.pth, needs
NAME.json: see EXAMPLE. Colours are scaled as for ImageNet, where the card does not say otherwise.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

from pipeline import storage
from pipeline.errors import ConfigError, StorageError, WeightsError
from pipeline.geometry import Geometry, half_pixels
from pipeline.masks import pascal_palette
from pipeline.models.adapters.adapter import Adapter
from pipeline.models.adapters.files import config_has, digest_of, json_object
from pipeline.models.card import Card
from pipeline.models.checkpoints.reading import read_state
from pipeline.models.checkpoints.state import State, fill
from pipeline.models.network import Network
from pipeline.models.plain import build
from pipeline.models.preprocessing import IMAGENET_PREPROCESSING, Preprocessing

NAME = "smp"
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "card.json"
SUFFIXES = (".pth", ".pt")
STEP = 32  # that the encoders' downsampling divides
FULL_RESOLUTION = 2
"""Stride in pixels that logits of every pixel are brought to, by the mean of each square: a quarter of their memory."""

EXAMPLE = '{"architecture": "DeepLabV3Plus", "encoder_name": "resnet50", "classes": ["background", "road"]}'


@dataclass(frozen=True, kw_only=True)
class SmpCard:
    """Hold what the card beside a state dict says; in a folder's card.json the classes are enough.

    classes: names by class index; of a network with one output, of both.
    architecture, encoder_name, arguments: the class in smp, and what it was made with.
    channels, mean, std: the network takes (pixel - mean) / std, with pixels from 0 to 255, in this order of colours.
    licence, training_split: of the weights.
    """

    classes: tuple[str, ...]
    channels: Literal["RGB", "BGR"] = IMAGENET_PREPROCESSING.channels
    mean: tuple[float, float, float] = IMAGENET_PREPROCESSING.mean
    std: tuple[float, float, float] = IMAGENET_PREPROCESSING.std
    architecture: str = ""
    encoder_name: str = ""
    arguments: Mapping[str, float | str] = field(default_factory=dict)
    licence: str = "unknown"
    training_split: str = "none"


class SmpNetwork(Network):
    """Run a network of smp.

    Most end with an upsampling that aligns the corners of a padded picture. That is on no grid of one stride, so it is
    carried out, and its result brought to every second pixel.
    """

    adapter = NAME
    normalised: ClassVar = {  # of torchvision, which most encoders are of
        "BasicBlock": [("conv1", "bn1"), ("conv2", "bn2")],
        "Bottleneck": [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")],
        "ResNetEncoder": [("conv1", "bn1")],
    }

    def __init__(self, card: Card, model: torch.nn.Module, digest: str) -> None:
        super().__init__(card)
        self.model: Any = model.eval()
        self._digest = digest
        with torch.inference_mode():
            rows = self._logits(torch.zeros(1, 3, 2 * STEP, 2 * STEP)).shape[-2]
        self._stride = 2 * STEP // rows

    @property
    def network(self) -> str:
        """Name the class in smp."""
        return f"smp {type(self.model).__name__}"

    @property
    def geometry(self) -> Geometry:
        """Return the grid of half pixels."""
        return half_pixels(max(self._stride, FULL_RESOLUTION))

    @property
    def step(self) -> int:
        """Return the step of the sizes."""
        return STEP

    @property
    def digest(self) -> str:
        """Return the digest of the weights and of what they are of."""
        return self._digest

    def grid(self, batch: Tensor) -> Tensor:
        """Compute the logits (N, C, h, w); those of every pixel as means of squares."""
        logits = self._logits(batch)
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)  # softmax of (0, z) is the sigmoid of z
        return functional.avg_pool2d(logits, FULL_RESOLUTION) if self._stride == 1 else logits

    def _logits(self, batch: Tensor) -> Tensor:
        classify, upsample, _ = self.model.segmentation_head  # without the activation
        logits: Tensor = upsample(classify(self.model.decoder(self.model.encoder(batch))))
        return logits


def recognises(place: str) -> bool:
    """Tell whether it is a folder that smp has written, or a state dict with a card that names an encoder."""
    if place.endswith(SUFFIXES):
        try:
            return b'"encoder_name"' in storage.read_bytes(place.rpartition(".")[0] + ".json")
        except (OSError, StorageError):
            return False
    return config_has(place, "encoder_name")


def load(place: str) -> Network:
    """Load a folder, or a state dict on any storage.

    Raises:
        WeightsError: a file is missing or damaged, or says what cannot be; the message says what is expected.
    """
    try:
        return (_of_state_dict if place.endswith(SUFFIXES) else _of_folder)(place)
    except (ConfigError, WeightsError) as error:
        raise WeightsError(f"{storage.redact(place)}: {error}") from error


def _of_folder(place: str) -> Network:
    folder = Path(place)
    config = json_object(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        raise WeightsError(f"it has no {WEIGHTS}; weights that are pickled are not read: save_pretrained writes this")
    try:
        state = safetensors.torch.load((folder / WEIGHTS).read_bytes())
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{WEIGHTS} is damaged: {error}") from error
    plain = json_object(folder / CARD) if (folder / CARD).is_file() else None
    names = list(_numbered(config.get("classes"))) if plain is None else []
    says = build(SmpCard, plain if plain is not None else {"classes": names}, "card")
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    return _network(str(config.get("_model_class")), settings, state, says, place)


def _of_state_dict(place: str) -> Network:
    uri = place.rpartition(".")[0] + ".json"
    try:
        says = build(SmpCard, json.loads(storage.read_bytes(uri)), "card")
    except (ConfigError, ValueError, RecursionError) as error:
        raise WeightsError(f"the card {storage.redact(uri)} cannot be used: {error}; for example {EXAMPLE}") from error
    settings = {**says.arguments, "encoder_name": says.encoder_name}
    state = read_state(place)
    head = next((value for key, value in state.items() if key == "segmentation_head.0.weight"), None)
    settings.setdefault("classes", len(says.classes) if head is None else len(head))
    return _network(says.architecture, settings, state, says, place)


def _network(architecture: str, settings: Mapping[str, Any], state: State, says: SmpCard, place: str) -> Network:
    import segmentation_models_pytorch

    known = {kind.__name__: kind for kind in segmentation_models_pytorch.MODEL_ARCHITECTURES_MAPPING.values()}
    if architecture not in known:
        raise WeightsError(f"smp has no architecture {architecture!r}; it has {', '.join(sorted(known))}")
    outputs, names = settings.get("classes"), says.classes
    if len(names) != (2 if outputs == 1 else outputs):
        raise WeightsError(f"it has {outputs} outputs, and its card names {len(names)} classes")
    try:
        model = known[architecture](**{**settings, "encoder_weights": None})
    except Exception as error:  # smp raises what it likes for settings that make no sense
        raise WeightsError(f"smp cannot build {architecture}: {' '.join(str(error).split())[:200]}") from error
    fill(model, {key: value.float() for key, value in state.items()}, place)
    card = Card(
        name=Path(storage.redact(place)).stem,
        classes=names,
        palette=tuple((r, g, b) for r, g, b in pascal_palette(len(names)).tolist()),
        preprocessing=Preprocessing(channels=says.channels, mean=says.mean, std=says.std),
        licence=says.licence,
        training_split=says.training_split,
        source=storage.redact(place),
    )
    decisive = json.dumps([NAME, architecture, sorted(map(str, settings.items())), repr(card.preprocessing)]).encode()
    weights = safetensors.torch.save({key: value.contiguous() for key, value in model.state_dict().items()})
    return SmpNetwork(card, model, digest_of([decisive, weights], [])).eval()


def _numbered(outputs: object) -> tuple[str, ...]:
    """Name classes by their number. Raises WeightsError where their count is none."""
    if not isinstance(outputs, int) or not 1 <= outputs <= 256:
        raise WeightsError(f"{CONFIG} has {outputs!r} classes")
    return tuple(f"class_{index}" for index in range(max(outputs, 2)))


ADAPTER = Adapter(
    reads="a network of segmentation_models_pytorch, a folder or a state dict with its card",
    example="FOLDER",
    place="in the folder or the file",
    extra="smp",
    package="segmentation_models_pytorch",
    recognises=recognises,
    load=load,
)
