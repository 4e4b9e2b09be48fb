"""Read a weights file into weights and a card: the container by its first bytes, the layout by its keys."""

import argparse
import io
import re
from collections.abc import Callable

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pipeline import storage
from pipeline.errors import ConfigError, StorageError, WeightsError
from pipeline.models.checkpoints import (
    caffe,
    efficientnet_lite,
    kazuto,
    mobilenet_v2,
    native,
    smp,
    torchvision,
    torchvision_mobile,
    vainf,
)
from pipeline.models.checkpoints.state import BackboneWeights, Checkpoint, State, named

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80\x02"
_KEPT_AS = (
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model_ema",
    "ema_state_dict",
    "state_dict_ema",
    "ema",
)
"""What training scripts call the state_dict in the checkpoints that they store; averaged weights come last."""
_WRAPPERS = ("module.", "_orig_mod.", "model.", "ema_model.", "ema.")
"""What is in front of every key: by torch's DataParallel, by torch.compile, by Lightning, and by averaging."""
_AVERAGED = "n_averaged"  # a counter beside averaged weights, without a prefix
_STRANGER = re.compile(r"GLOBAL (\S+) was not an allowed global")

_LAYOUTS: tuple[tuple[Callable[[State], bool], Callable[[State], Checkpoint | BackboneWeights]], ...] = (
    (kazuto.matches, kazuto.convert),
    (torchvision.matches_deeplabv3, torchvision.convert_deeplabv3),
    (vainf.matches, vainf.convert),
    (smp.matches, smp.convert),
    (torchvision_mobile.matches, torchvision_mobile.convert),
    (torchvision.matches_resnet, torchvision.convert_resnet),
    (torchvision.matches_vgg16, torchvision.convert_vgg16),
    (mobilenet_v2.matches, mobilenet_v2.convert),
    (efficientnet_lite.matches, efficientnet_lite.convert),
)

_EXPECTED = (
    "this project (trunk...., head....)",
    "kazuto1011 (base.layer1.conv1.conv.weight)",
    "torchvision's DeepLabV3 on ResNet-50 or 101 (backbone.conv1.weight, classifier.0.convs.0.0.weight)",
    "torchvision's DeepLabV3 or LR-ASPP on MobileNetV3-Large (backbone.16.0.weight, classifier....)",
    "VainF's DeepLab v3+ on ResNet-50 or 101, or MobileNetV2 (backbone.conv1.weight or "
    "backbone.low_level_features.0.0.weight, classifier.project.0.weight)",
    "smp's DeepLab v3+ on ResNet-50 or 101 (encoder.conv1.weight, decoder.block2.0.0.weight)",
    "a backbone of torchvision (conv1.weight, layer1.0.conv1.weight; features.0.weight; features.0.0.weight)",
    "EfficientNet-Lite0 or Lite2 (_conv_stem.weight)",
    "any other network of smp, which a card beside the file or smp.architecture and smp.encoder_name must name "
    "(encoder...., decoder...., segmentation_head....)",
)


def read(uri: str) -> Checkpoint | BackboneWeights:
    """Read the weights file at a local path or any storage URI.

    Raises:
        WeightsError: it cannot be read, is damaged, or is of no known layout.
    """
    return parse(_bytes_of(uri), uri)


def read_state(uri: str) -> State:
    """Read the tensors of a torch or safetensors file, of whatever layout, by their names without wrappers.

    Raises:
        WeightsError: it cannot be read, is damaged, or holds more than tensors.
    """
    data = _bytes_of(uri)
    return _unwrapped(_torch_tensors(data) if data.startswith((_ZIP, _PICKLE)) else _safetensors(data))


def _bytes_of(uri: str) -> bytes:
    try:
        storage.within(storage.PROBE_SECONDS, uri, "read", lambda: storage.probe_object(uri))
        return storage.read_bytes(uri)
    except StorageError as error:
        raise WeightsError(f"no weights: {error}") from error


def parse(data: bytes, uri: str) -> Checkpoint | BackboneWeights:
    """Parse a file's bytes, which came from `uri`. Raises WeightsError."""
    try:
        if data.startswith((_ZIP, _PICKLE)):
            return _convert(_unwrapped(_torch_tensors(data)), data, uri)
        if data[8:9] == b"{":  # after the eight bytes of the header's length
            return _convert(_unwrapped(_safetensors(data)), data, uri)
        return _caffe(data)
    except (WeightsError, ConfigError) as error:
        raise WeightsError(f"{storage.redact(uri)}: {error}") from error


def _convert(state: State, data: bytes, uri: str) -> Checkpoint | BackboneWeights:
    if native.matches(state):
        return native.convert(state, data, uri)
    for matches, convert in _LAYOUTS:
        if matches(state):
            return convert(state)
    raise WeightsError(
        f"no known layout has these keys: {named(sorted(state)) or 'none'}; "
        f"expected are those of {', '.join(_EXPECTED)}"
    )


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
    """Read the state_dict that torch.save wrote, without running any code that the file may contain.

    It is the file, or what a training script keeps beside epochs and flags; these may be an argparse.Namespace, which
    does nothing when it is made.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can make the unpickler raise anything
        raise WeightsError(_unreadable(str(error))) from error
    if _is_state(loaded):
        return dict(loaded)
    if not isinstance(loaded, dict):
        raise WeightsError(f"this torch file holds a {type(loaded).__name__}; it must be a state_dict, or hold one")
    kept = next((loaded[name] for name in _KEPT_AS if _is_state(loaded.get(name))), None)
    if kept is None:
        raise WeightsError(
            f"this torch file is no plain state_dict, and holds none as {', '.join(_KEPT_AS)}; "
            f"its keys are {named(list(map(str, loaded)))}"
        )
    return dict(kept)


def _is_state(loaded: object) -> bool:
    return isinstance(loaded, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items())


def _unreadable(reason: str) -> str:
    """Say why torch does not read a file. What it says itself advises to read the file unsafely."""
    if stranger := _STRANGER.search(reason):
        return (
            f"this torch file holds an object {stranger[1]}, and to read that could run code that the file brings; "
            "where it was made, store the weights alone: torch.save(model.state_dict(), FILE)"
        )
    if "weights_only" in reason or not reason.strip():
        return "this torch file is damaged, or holds more than tensors; store the state_dict alone"
    return f"this torch file is damaged: {reason.strip().splitlines()[0]}"


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove what wrappers of a network put in front of every key."""
    state = {key: value for key, value in state.items() if key != _AVERAGED}
    while prefix := next((p for p in _WRAPPERS if state and all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state
