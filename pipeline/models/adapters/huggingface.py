"""Run segmentation networks of Hugging Face transformers: a folder as save_pretrained writes it, or a name on the hub.

Preprocessing, labels and sizes are those of the folder's own files. Weights are read from safetensors alone, and no
code that a model brings is run. A centre crop is left out: a mask is of the whole picture.
"""

import json
import os.path
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from pipeline import storage
from pipeline.errors import ConfigError, WeightsError
from pipeline.geometry import Geometry, Resize, half_pixels
from pipeline.masks import pascal_palette
from pipeline.models.adapters.adapter import Adapter
from pipeline.models.adapters.files import beside, config_has, digest_of, json_object, named_once
from pipeline.models.adapters.full_resolution import centres_of_squares, kept_stride, spread
from pipeline.models.adapters.huggingface_processor import (
    PROCESSOR,
    preparation_of,
    processor_settings,
    task_tokens,
)
from pipeline.models.card import Card
from pipeline.models.network import Network

NAME = "hf"
PREFIX = "hf:"
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PER_PIXEL = ("segformer", "mobilenet_v2", "mobilevit", "mobilevitv2", "upernet", "beit", "data2vec-vision", "dpt")
MASK_QUERIES = ("mask2former", "maskformer", "oneformer")
"""What `model_type` says: families that give logits, and families that give masks and a class for each."""

STEP = 32  # that the families' downsampling divides
_LEAST_SCORE = 1e-30  # where no mask is
_UPERNET = "UperNetForSemanticSegmentation"


class HuggingFaceNetwork(Network):
    """Run a network of transformers; its logits are upsampled as its own post-processing does, by half pixels."""

    adapter = NAME
    normalised: ClassVar = {
        "BeitConvModule": [("conv", "bn")],
        "Data2VecVisionConvModule": [("conv", "bn")],
        "MobileNetV2ConvLayer": [("convolution", "normalization")],
        "MobileViTConvLayer": [("convolution", "normalization")],
        "MobileViTV2ConvLayer": [("convolution", "normalization")],
        "SegformerDecodeHead": [("linear_fuse", "batch_norm")],
        "UperNetConvModule": [("conv", "batch_norm")],
    }

    def __init__(self, card: Card, model: torch.nn.Module, resize: Resize | None, digest: str) -> None:
        super().__init__(card)
        self.model: Any = model
        self._resize, self._digest = resize, digest
        self._stride = _stride_of(self._logits, resize)
        if self.step > 1 and self.step % self._stride:
            raise WeightsError(
                f"its logits have a stride of {self._stride} pixels, which does not divide {self.step}, the step of "
                f"its sides; let {PROCESSOR} resize pictures"
            )
        self._pooled = kept_stride(len(card.classes)) if self._stride == 1 else 1

    def __getstate__(self) -> dict[str, Any]:
        """Give class, config and weights: once it has run, the model itself holds what cannot be sent."""
        parts = {name: part for name, part in self._modules.items() if part is not self.model}
        sent = type(self.model), self.model.config, dict(self.model.state_dict())
        return self.__dict__ | {"_modules": parts, "_sent": sent}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the model anew."""
        kind, config, weights = state.pop("_sent")
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.model = kind(config).eval()
        self.model.load_state_dict(weights, assign=True)

    @property
    def network(self) -> str:
        """Name the class in transformers."""
        return type(self.model).__name__

    @property
    def geometry(self) -> Geometry:
        """Return the grid of half pixels; over a resized picture, which is not padded, a network's own is stretched."""
        return half_pixels(self._stride * self._pooled, self._resize, spans=self.step == 1 and self._pooled == 1)

    @property
    def step(self) -> int:
        """Return the step of the sizes: any, as the family pads by itself, where a picture has been resized."""
        return 1 if self._resize is not None else STEP

    @property
    def digest(self) -> str:
        """Return the digest of the folder's files."""
        return self._digest

    def grid(self, batch: Tensor) -> Tensor:
        """Compute the logits (N, C, h, w); those of every pixel of many classes on a coarser grid.

        Some families give more or fewer than a point for each of their strides, and stretch these over the picture.
        """
        points = [-(-side // self._stride) for side in batch.shape[2:]]
        return centres_of_squares(spread(self._logits(batch), points), self._pooled)

    def _logits(self, batch: Tensor) -> Tensor:
        if self.network == _UPERNET:
            logits: Tensor = self.model.decode_head(self.model.backbone(batch).feature_maps)  # before it is upsampled
            return logits
        result: Tensor = self.model(pixel_values=batch).logits
        return result


class MaskQueriesNetwork(HuggingFaceNetwork):
    """Run a network that gives masks and, for each, classes.

    The score of a class is the sum over the masks of mask times class, as in the families' own post-processing. The
    logit is the logarithm of its share, so that the softmax gives the shares, and float16 holds them where scores are
    small.
    """

    def __init__(
        self, card: Card, model: torch.nn.Module, resize: Resize | None, digest: str, task: Tensor | None
    ) -> None:
        self._task = task  # (1, tokens), of OneFormer alone
        super().__init__(card, model, resize, digest)

    def _logits(self, batch: Tensor) -> Tensor:
        """Compute the logarithms of the class scores' shares (N, C, h, w)."""
        given = {} if self._task is None else {"task_inputs": self._task.to(batch.device).expand(len(batch), -1)}
        found = self.model(pixel_values=batch, **given)
        classes = found.class_queries_logits.float().softmax(dim=-1)[..., :-1]  # (N, Q, C), without "no object"
        masks = found.masks_queries_logits.float().sigmoid()  # (N, Q, h, w)
        scores = torch.einsum("nqc,nqhw->nchw", classes, masks).clamp(min=_LEAST_SCORE)
        return scores.log() - scores.sum(dim=1, keepdim=True).log()


def recognises(place: str) -> bool:
    """Tell whether it is a name on the hub, or a folder with the config of a network of transformers."""
    return place.startswith(PREFIX) or config_has(place, "model_type")


def load(place: str) -> Network:
    """Load a network from the hub, or from a folder.

    Raises:
        WeightsError: it cannot be had, is of no known family, has a file missing or damaged, or asks to run its code.
    """
    folder = _downloaded(place.removeprefix(PREFIX)) if place.startswith(PREFIX) else Path(place)
    try:
        return _load(folder, place.removeprefix(PREFIX).rstrip("/"))
    except (WeightsError, ConfigError) as error:
        raise WeightsError(f"{storage.redact(place)}: {error}") from error


def _load(folder: Path, name: str) -> Network:
    config = json_object(folder / CONFIG)
    family = _family(config)
    files = _weights(folder)
    preprocessing, resize = preparation_of(processor_settings(folder, family), family)
    if family in MASK_QUERIES and resize is None:
        raise WeightsError(f"{PROCESSOR} resizes nothing, which the family {family} needs")
    if family == "dpt" and (resize is None or len(set(resize.of(1, 2))) > 1):
        raise WeightsError(f"{PROCESSOR} must give a size of one number, since transformers' DPT segments only squares")
    model, loaded = _model(folder, family)
    card = Card(
        name=Path(name).name if Path(name).is_absolute() else name,
        classes=labels_of(loaded.id2label),
        palette=tuple((r, g, b) for r, g, b in pascal_palette(len(loaded.id2label)).tolist()),
        preprocessing=preprocessing,
        source=name,
    )
    kept = kept_stride(len(card.classes))
    settings = json.dumps([NAME, family, repr(preprocessing), repr(resize), kept]).encode()
    digest = digest_of([settings, (folder / CONFIG).read_bytes()], files)
    if family not in MASK_QUERIES:
        return HuggingFaceNetwork(card, model, resize, digest).eval()
    task = task_tokens(folder, loaded.task_seq_len) if family == "oneformer" else None
    return MaskQueriesNetwork(card, model, resize, digest, task).eval()


def _downloaded(name: str) -> Path:
    """Fetch a model of the hub into its cache; HF_HOME, HF_HUB_OFFLINE and a token are honoured there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt"]))
    except HFValidationError as error:
        raise WeightsError(f"{PREFIX}{name} is no name on the hub; it is hf:ORG/NAME") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"{PREFIX}{name} cannot be fetched, and is not in the cache: {reason}; where there is no network, put its "
            "folder on this machine and give its path"
        ) from error


def _family(config: Mapping[str, Any]) -> str:
    """Return the family of a config. Raises WeightsError for one that is not known, or asks to run code."""
    if "auto_map" in config:
        raise WeightsError(f"{CONFIG} asks to run code that the model brings (auto_map), which is never done")
    family = config.get("model_type")
    if family not in (*PER_PIXEL, *MASK_QUERIES):
        known = ", ".join((*PER_PIXEL, *MASK_QUERIES))
        raise WeightsError(f"{CONFIG} says model_type {family!r}, which is none of the families known: {known}")
    architectures = config.get("architectures") or ["nothing"]
    if not isinstance(architectures, list):
        raise WeightsError(f"{CONFIG} says architectures {architectures!r}; it must be a list of names")
    if not str(architectures[0]).endswith(("ForSemanticSegmentation", "ForUniversalSegmentation", "Segmentation")):
        raise WeightsError(f"its weights are of {architectures[0]}, which does not segment")
    return str(family)


def _weights(folder: Path) -> list[Path]:
    """List the files of the weights. Raises WeightsError where one is missing, or they are pickled."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        parts = json_object(folder / INDEX).get("weight_map")
        names = sorted({str(name) for name in parts.values()}) if isinstance(parts, dict) else []
        files = [beside(folder, name) for name in names]
        missing = [path.name for path in files if not os.path.isfile(path)]  # Path's own raises for too long a name
        if missing or not files:
            raise WeightsError(f"{INDEX} names {missing[0] if missing else 'no file'}, which is not there")
        return files
    pickled = next(iter(sorted(path.name for path in folder.glob("*.bin"))), None)
    if pickled:
        raise WeightsError(
            f"it has {pickled} and no {WEIGHTS}; a pickle can run code and is not read: store it again with "
            "save_pretrained, which writes safetensors"
        )
    raise WeightsError(f"it has no {WEIGHTS}")


def _model(folder: Path, family: str) -> tuple[torch.nn.Module, Any]:
    """Load the weights, all of them, into the family's class; returns it and its config."""
    import transformers

    masks = transformers.AutoModelForUniversalSegmentation
    auto = masks if family in MASK_QUERIES else transformers.AutoModelForSemanticSegmentation
    if family == "maskformer":
        auto = transformers.MaskFormerForInstanceSegmentation
    try:
        with _quiet():
            model, found = auto.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except Exception as error:  # of any kind: of its own checks, of safetensors, of a config that makes no sense
        raise WeightsError(f"transformers cannot load it: {' '.join(str(error).split())[:300]}") from error
    missing = sorted(found["missing_keys"]) + [str(key[0]) for key in found["mismatched_keys"]]
    if missing:
        raise WeightsError(f"its weights lack {len(missing)} that {type(model).__name__} has, such as {missing[0]}")
    return model, model.config


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from showing progress and reports; what matters of them is said in an error."""
    from transformers.utils import logging

    level, shows = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shows:
            logging.enable_progress_bar()


def labels_of(id2label: Mapping[Any, str]) -> tuple[str, ...]:
    """Return the class names in the order of their numbers. Raises WeightsError where one is missing."""
    numbered = {int(key): label for key, label in id2label.items()}
    if sorted(numbered) != list(range(len(numbered))):
        raise WeightsError(f"{CONFIG} does not name every class in id2label: the numbers are {sorted(numbered)[:20]}")
    return named_once(numbered[index] for index in range(len(numbered)))


@torch.inference_mode()
def _stride_of(logits: Callable[[Tensor], Tensor], resize: Resize | None) -> int:
    """Find the output stride by running the network once, on nothing, at a size that it should take.

    Raises:
        WeightsError: it does not.
    """
    height, width = resize.of(*resize.sides) if resize and resize.sides else (4 * STEP, 4 * STEP)
    try:
        rows = logits(torch.zeros(1, 3, height, width)).shape[-2]
    except Exception as error:  # of any kind: of its layers and of what they call
        raise WeightsError(
            f"it does not take a picture of {height}x{width}: {' '.join(str(error).split())[:200]}; change the size in "
            f"{PROCESSOR}"
        ) from error
    return max(round(height / rows), 1)


ADAPTER = Adapter(
    reads="a network of Hugging Face transformers, from the hub or a folder",
    example="hf:ORG/NAME",
    place="in the folder that is named, or in the cache of HF_HOME",
    extra="hf",
    package="transformers",
    recognises=recognises,
    load=load,
)
