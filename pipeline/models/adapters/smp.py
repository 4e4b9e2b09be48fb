"""Run networks of segmentation_models_pytorch: folders of save_pretrained, and state dicts.

A folder may have a card.json that names the classes; without it they are numbered. A state dict, NAME.pth, needs
NAME.json, see EXAMPLE, or flags that say what it is of. Colours are scaled as for ImageNet, where the card does not say
otherwise.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pipeline import storage
from pipeline.errors import ConfigError, StorageError, WeightsError
from pipeline.geometry import Geometry, half_pixels
from pipeline.masks import pascal_palette
from pipeline.models.adapters.adapter import Adapter
from pipeline.models.adapters.files import config_has, digest_of, json_object
from pipeline.models.adapters.full_resolution import centres_of_squares, kept_stride
from pipeline.models.card import Card
from pipeline.models.checkpoints.reading import read_state
from pipeline.models.checkpoints.state import State, fill, named
from pipeline.models.network import Network
from pipeline.models.plain import build
from pipeline.models.preprocessing import IMAGENET_PREPROCESSING, Preprocessing
from pipeline.models.smp_config import SmpConfig

NAME = "smp"
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "card.json"
SUFFIXES = (".pth", ".pt")
STEP = 32  # that the encoders' downsampling divides

_HEAD, _OF_WHOLE_PICTURES = "segmentation_head.", "classification_head."
_LOGITS_ALONE = {"encoder_weights": None, "activation": None, "aux_params": None}

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
    arguments: Mapping[str, bool | float | str | tuple[float, ...] | None] = field(default_factory=dict)
    licence: str = "unknown"
    training_split: str = "none"


class SmpNetwork(Network):
    """Run a network of smp.

    Most end with an upsampling that aligns the corners of a padded picture. That is on no grid of one stride, so it is
    carried out, and its result brought to a coarser grid where classes are many.
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
        own = _stride_of(self.model)
        self._pooled = kept_stride(len(card.classes)) if own == 1 else 1
        self._stride = own * self._pooled

    @property
    def network(self) -> str:
        """Name the class in smp."""
        return f"smp {type(self.model).__name__}"

    @property
    def geometry(self) -> Geometry:
        """Return the grid of half pixels."""
        return half_pixels(self._stride)

    @property
    def step(self) -> int:
        """Return the step of the sizes."""
        return STEP

    @property
    def digest(self) -> str:
        """Return the digest of the weights and of what they are of."""
        return self._digest

    def grid(self, batch: Tensor) -> Tensor:
        """Compute the logits (N, C, h, w); those of every pixel of many classes on a coarser grid."""
        logits: Tensor = self.model(batch)
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)  # softmax of (0, z) is the sigmoid of z
        return centres_of_squares(logits, self._pooled)


def recognises(place: str) -> bool:
    """Tell whether it is a folder that smp has written, or a state dict with a card that names an encoder."""
    if place.endswith(SUFFIXES):
        try:
            return b'"encoder_name"' in storage.read_bytes(place.rpartition(".")[0] + ".json")
        except (OSError, StorageError):
            return False
    return config_has(place, "encoder_name")


def load(place: str, flags: SmpConfig | None = None) -> Network:
    """Load a folder, or a state dict on any storage, of the network that its card or `flags` name.

    Raises:
        WeightsError: a file is missing or damaged, or says what cannot be; the message says what is expected.
    """
    try:
        return _of_state_dict(place, flags) if place.endswith(SUFFIXES) else _of_folder(place)
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
    says = build(SmpCard, plain, "card") if plain is not None else SmpCard(classes=_numbered(config.get("classes")))
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    return _network(str(config.get("_model_class")), settings, state, says, place)


def _of_state_dict(place: str, flags: SmpConfig | None) -> Network:
    state = read_state(place)
    head = [value for key, value in state.items() if key.startswith(_HEAD) and key.endswith(".weight")]
    if not head:
        raise WeightsError(
            f"a state dict of smp has the keys encoder...., decoder...., {_HEAD}..., and this one "
            f"{named(sorted(state)) or 'none'}"
        )
    outputs = len(head[-1])
    says = _said(flags, outputs) if flags else _card(place)
    settings = {"classes": outputs, **says.arguments, "encoder_name": says.encoder_name}
    return _network(says.architecture, settings, state, says, place)


def _said(flags: SmpConfig, outputs: int) -> SmpCard:
    return SmpCard(
        classes=_numbered(outputs), architecture=flags.architecture or "", encoder_name=flags.encoder_name or ""
    )


def _card(place: str) -> SmpCard:
    uri = place.rpartition(".")[0] + ".json"
    try:
        return build(SmpCard, json.loads(storage.read_bytes(uri)), "card")
    except (ConfigError, ValueError, RecursionError) as error:
        raise WeightsError(f"the card {storage.redact(uri)} cannot be used: {error}; for example {EXAMPLE}") from error


def _network(architecture: str, settings: Mapping[str, Any], state: State, says: SmpCard, place: str) -> Network:
    import segmentation_models_pytorch

    known = {kind.__name__: kind for kind in segmentation_models_pytorch.MODEL_ARCHITECTURES_MAPPING.values()}
    if architecture not in known:
        raise WeightsError(f"smp has no architecture {architecture!r}; it has {', '.join(sorted(known))}")
    outputs, names = settings.get("classes"), says.classes
    if len(names) != (2 if outputs == 1 else outputs):
        raise WeightsError(f"it has {outputs} outputs, and its card names {len(names)} classes")
    if ":" in (encoder := str(settings.get("encoder_name"))):
        raise WeightsError(
            f"encoder_name is {encoder!r}; a model's own files say all, and none is fetched from elsewhere"
        )
    state = {key: value for key, value in state.items() if not key.startswith(_OF_WHOLE_PICTURES)}
    try:
        model = known[architecture](**{**settings, **_LOGITS_ALONE})
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
    kept = kept_stride(len(names))
    decided = [NAME, architecture, sorted(map(str, settings.items())), repr(card.preprocessing), kept]
    weights = safetensors.torch.save({key: value.contiguous() for key, value in model.state_dict().items()})
    return SmpNetwork(card, model, digest_of([json.dumps(decided).encode(), weights], [])).eval()


@torch.inference_mode()
def _stride_of(model: Any) -> int:
    """Find the output stride by running the network once, on nothing. Raises WeightsError."""
    side = 4 * STEP
    try:
        logits = model(torch.zeros(1, 3, side, side))
    except Exception as error:  # as above
        raise WeightsError(
            f"it does not take a picture of {side}x{side}: {' '.join(str(error).split())[:200]}"
        ) from error
    return side // int(logits.shape[-2])


def _numbered(outputs: object) -> tuple[str, ...]:
    """Name classes by their number. Raises WeightsError where their count is none."""
    if not isinstance(outputs, int) or not 1 <= outputs <= 256:
        raise WeightsError(f"it has {outputs!r} classes; masks can hold 2 to 256")
    return tuple(f"class_{index}" for index in range(max(outputs, 2)))


def of_flags(flags: SmpConfig) -> Adapter:
    """Return the adapter for a state dict of the network that flags name, whatever lies beside it."""
    return replace(ADAPTER, recognises=lambda place: place.endswith(SUFFIXES), load=partial(load, flags=flags))


ADAPTER = Adapter(
    reads="a network of segmentation_models_pytorch, a folder, or a state dict with a card or flags",
    example="FOLDER",
    place="in the folder or the file",
    extra="smp",
    package="segmentation_models_pytorch",
    recognises=recognises,
    load=load,
)
