"""Translate between the names in the code and those in what is stored: model files, digests and unfinished trainings.

A backbone is stored as `trunk` and its options as `resnet`, as they were first called: files that people have must
load, and outputs in buckets are matched by the model's digest.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pipeline.errors import ConfigError

_STORED_FIELDS = {"backbone": "trunk", "options": "resnet"}
STORED_PREFIX = "trunk."  # of a backbone's weights
_PREFIX = "backbone."


def stored_architecture(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the fields of an Architecture to those of a card."""
    return {_STORED_FIELDS.get(name, name): value for name, value in fields.items()}


def architecture_fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `stored_architecture`. Raises ConfigError where one of the renamed fields is missing."""
    rest = dict(stored)
    for old in _STORED_FIELDS.values():
        if old not in rest:
            raise ConfigError(f"architecture has no field {old!r}")
    return rest | {name: rest.pop(old) for name, old in _STORED_FIELDS.items()}


def stored_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of a network's state dict to those of files, in the same order."""
    return {_replaced(key, _PREFIX, STORED_PREFIX): value for key, value in state.items()}


def network_state(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `stored_state`."""
    return {_replaced(key, STORED_PREFIX, _PREFIX): value for key, value in stored.items()}


def _replaced(key: str, old: str, new: str) -> str:
    return new + key.removeprefix(old) if key.startswith(old) else key
