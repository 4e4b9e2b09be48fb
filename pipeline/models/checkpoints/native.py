"""Read and write the project's own layout: NAME.safetensors with the weights, and beside it NAME.json with the card.

Both hold the names of `pipeline.models.stored_names`.
"""

import hashlib
import json

import safetensors.torch
import torch
from torch import Tensor

from pipeline import storage
from pipeline.errors import StorageError, WeightsError
from pipeline.models.built_in import SUFFIX as SUFFIX
from pipeline.models.card import ModelCard
from pipeline.models.checkpoints.state import Checkpoint, State
from pipeline.models.deeplab import SegmentationModel
from pipeline.models.stored_names import STORED_PREFIX, network_state, stored_state

_DIGEST = "weights_sha256"


def save(model: SegmentationModel, uri: str, *, half: bool = False) -> None:
    """Write the weights to `uri`, which ends in .safetensors, and the card beside them.

    Args:
        half: store convolution weights as float16, half the size; vectors such as batch statistics stay float32.

    Raises:
        WeightsError: another suffix, or weights that are not finite, or too large for float16.
        StorageError: the place cannot be written.
    """
    card_uri = _card_uri(uri)
    floats = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    tensors = {name: _stored(name, value, half) for name, value in floats.items()}
    data = safetensors.torch.save(stored_state(tensors))
    card = {**model.card.to_dict(), _DIGEST: hashlib.sha256(data).hexdigest()}
    storage.put_whole(card_uri, (json.dumps(card, indent=2) + "\n").encode())
    storage.put_whole(uri, data)


def card_fields(stored: dict[str, object]) -> dict[str, object]:
    """Return a stored card's own fields, without the digest of the weights beside it."""
    return {name: value for name, value in stored.items() if name != _DIGEST}


def matches(state: State) -> bool:
    """Tell whether these keys are of this layout."""
    return any(key.startswith(STORED_PREFIX) for key in state) and any(key.startswith("head.") for key in state)


def convert(state: State, data: bytes, uri: str) -> Checkpoint:
    """Return the model whose weights file `data` was read from `uri`; its card is read from beside it.

    Raises:
        WeightsError: the card is missing, is no card, or belongs to other weights.
    """
    card_uri = _card_uri(uri)
    try:
        fields = json.loads(storage.read_bytes(card_uri))
    except StorageError as error:
        raise WeightsError(f"the weights {storage.redact(uri)} need their card beside them: {error}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"the card {storage.redact(card_uri)} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise WeightsError(f"the card {storage.redact(card_uri)} is no JSON object")
    noted, digest = fields.get(_DIGEST), hashlib.sha256(data).hexdigest()
    if noted != digest:
        raise WeightsError(
            f"the card {storage.redact(card_uri)} belongs to other weights than those beside it: its {_DIGEST} is "
            f"{noted!r}, and theirs {digest!r}"
        )
    floats = {key: value.float() for key, value in network_state(state).items()}
    return Checkpoint(card=ModelCard.from_dict(card_fields(fields)), state=floats, names_classes=True)


def _card_uri(uri: str) -> str:
    if not uri.endswith(SUFFIX):
        raise WeightsError(f"{storage.redact(uri)} must end in {SUFFIX}: the card goes beside it, in .json")
    return uri.removesuffix(SUFFIX) + ".json"


def _stored(name: str, value: Tensor, half: bool) -> Tensor:
    stored = value.detach().cpu().to(torch.float16 if half and value.ndim > 1 else torch.float32).contiguous()
    if not torch.isfinite(stored).all():
        raise WeightsError(f"{name} has values that are not finite or that float16 cannot hold; save with half=False")
    return stored
