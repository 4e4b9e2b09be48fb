"""The settings that a run must share with an earlier one of its name to go on from it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline import storage
from pipeline.data.formats.format import Pair
from pipeline.errors import ConfigError
from pipeline.labels import Labels
from pipeline.training.checkpoints import LAYOUT, Checkpoints
from pipeline.training.config import TrainConfig
from pipeline.training.recipe import Recipe

SETTINGS_FILE, SUMMARY_FILE = "settings.json", "summary.json"


def settings(config: TrainConfig, labels: Labels, training: Sequence[Pair], validation: Sequence[Pair]) -> bytes:
    """Give the settings as JSON, without credentials. `training` and `validation` are in the order of their keys."""
    values = {
        "architecture": config.architecture,
        "init": config.init and storage.redact(config.init),
        "data": storage.redact(config.data),
        "data_format": config.data_format,
        "image_column": config.image_column,
        "key_column": config.key_column,
        "mask_column": config.mask_column,
        "split": config.split,
        "training_pictures": _described(training),
        "validation_split": config.validation_split,
        "validation_pictures": _described(validation),
        "classes": labels.classes,
        "checkpoints": LAYOUT,
        "recipe": asdict(config.recipe),
    }
    return json.dumps(values, indent=2).encode()


def agree_with_earlier(config: TrainConfig, now: bytes) -> None:
    """Raise ConfigError for the name of a run that is finished, or that was begun with other settings than `now`.

    A run without a checkpoint has nothing to go on from, so that its name is free; its lock keeps two from beginning.
    """
    if storage.exists(storage.join(config.folder, SUMMARY_FILE)):
        raise ConfigError(
            f"the run {config.name!r} at {storage.redact(config.output)} is finished; give another --name to train anew"
        )
    go_on_with(config.folder, now, f"the run {config.name!r}", "another --name to train anew")


def go_on_with(folder: str, now: bytes, run: str, anew: str) -> None:
    """Raise ConfigError where a folder has checkpoints of a training that was begun with other settings than `now`.

    Args:
        folder: URI of the checkpoints, and of SETTINGS_FILE beside them.
        now: what `settings` gives.
        run: what the training is called in messages.
        anew: what to give in order to train anew.
    """
    uri = storage.join(folder, SETTINGS_FILE)
    if not storage.exists(uri):
        return
    try:
        before, after = _flat(storage.read_bytes(uri)), _flat(now)
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{storage.redact(uri)} is not what a training has written there ({type(error).__name__}: {error}); "
            f"give {anew}"
        ) from error
    changed = [f"{name} {before.get(name)} -> {after[name]}" for name in after if after[name] != before.get(name)]
    checkpoints = Checkpoints(folder=folder, check=lambda: None)
    if changed and (checkpoints.steps() or before.get("checkpoints") != LAYOUT):
        raise ConfigError(
            f"{run} was begun with other settings ({', '.join(changed)}); "
            f"give the same again to go on with it, or {anew}"
        )


def _described(pairs: Sequence[Pair]) -> str:
    """Give their number, and a digest of their keys."""
    digest = hashlib.sha256("\n".join(pair.key for pair in pairs).encode(errors="surrogateescape"))
    return f"{len(pairs)} (digest {digest.hexdigest()[:12]})"


def _flat(written: bytes) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(written)
    values |= asdict(Recipe()) | values.pop("recipe")  # what a field did not yet say was its default
    return values
