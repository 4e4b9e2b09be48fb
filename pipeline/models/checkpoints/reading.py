"""Read a weights file into weights and a card: the container by its first bytes, the layout by its keys."""

import io
from collections.abc import Callable

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pipeline import storage
from pipeline.errors import ConfigError, StorageError, WeightsError
from pipeline.models.checkpoints import caffe, efficientnet_lite, kazuto, native, torchvision
from pipeline.models.checkpoints.state import BackboneWeights, Checkpoint, State, named

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80\x02"

_LAYOUTS: tuple[tuple[Callable[[State], bool], Callable[[State], Checkpoint | BackboneWeights]], ...] = (
    (kazuto.matches, kazuto.convert),
    (torchvision.matches_deeplabv3, torchvision.convert_deeplabv3),
    (torchvision.matches_resnet, torchvision.convert_resnet),
    (torchvision.matches_vgg16, torchvision.convert_vgg16),
    (efficientnet_lite.matches, efficientnet_lite.convert),
)


def read(uri: str) -> Checkpoint | BackboneWeights:
    """Read the weights file at a local path or any storage URI.

    Raises:
        WeightsError: it cannot be read, is damaged, or is of no known layout.
    """
    try:
        storage.within(storage.PROBE_SECONDS, uri, "read", lambda: storage.probe_object(uri))
        data = storage.read_bytes(uri)
    except StorageError as error:
        raise WeightsError(f"no weights: {error}") from error
    return parse(data, uri)


def parse(data: bytes, uri: str) -> Checkpoint | BackboneWeights:
    """Parse a file's bytes, which came from `uri`. Raises WeightsError."""
    try:
        if data.startswith((_ZIP, _PICKLE)):
            return _convert(_torch_tensors(data), data, uri)
        if data[8:9] == b"{":  # after the eight bytes of the header's length
            return _convert(_safetensors(data), data, uri)
        return _caffe(data)
    except (WeightsError, ConfigError) as error:
        raise WeightsError(f"{storage.redact(uri)}: {error}") from error


def _convert(state: State, data: bytes, uri: str) -> Checkpoint | BackboneWeights:
    if native.matches(state):
        return native.convert(state, data, uri)
    for matches, convert in _LAYOUTS:
        if matches(state):
            return convert(state)
    raise WeightsError(f"no known layout has these keys: {named(sorted(state)) or 'none'}")


def _caffe(data: bytes) -> Checkpoint | BackboneWeights:
    try:
        return caffe.convert(data)
    except WeightsError as error:
        raise WeightsError(f"neither a torch nor a safetensors file, and as a .caffemodel: {error}") from error


def _safetensors(data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"a damaged safetensors file: {error}") from error


def _torch_tensors(data: bytes) -> dict[str, Tensor]:
    """Read a state_dict that torch.save wrote, without running any code that it may contain."""
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can make the unpickler raise anything
        raise WeightsError(f"torch cannot read this safely (weights_only): {error}") from error
    if not isinstance(loaded, dict):
        raise WeightsError("this torch file is not a state_dict")
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in loaded.items()):
        raise WeightsError("this torch file is not a plain state_dict: it holds more than named tensors")
    return loaded
