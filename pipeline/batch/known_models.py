"""The facts on a run's model, kept in its output, so that a later run that finds nothing to do loads no network.

They are kept under a digest of all that decides them: the weights' file and the card beside it, the flags that are read
with it, and this package's own code. So they are never wrong, and all may be deleted.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pipeline import masks, storage
from pipeline.batch.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.models.built_in import BUILT_IN, SUFFIX, built_in_names
from pipeline.models.facts import ModelFacts
from pipeline.models.plain import build
from pipeline.runtime.lock import put_checked

_SUFFIXES = (SUFFIX, ".pth")
"""Of files that hold all there is to know, but for the card."""


def place(config: RunConfig) -> str | None:
    """Give the URI where the facts on the model belong; None where it is more than a file of this machine."""
    name = str(config.model)
    path = BUILT_IN / f"{name}{SUFFIX}" if name in built_in_names() else Path(name)
    if path.suffix not in _SUFFIXES:
        return None
    try:
        weights, card = path.read_bytes(), path.with_suffix(".json")
        beside = card.read_bytes() if card.exists() else b""
    except OSError:  # also for a URI, which is no path
        return None
    smp = asdict(config.smp) if config.smp else None
    flags = json.dumps([name, config.classes, smp, asdict(config.inference)])
    digest = hashlib.sha256()
    for part in (weights, beside, flags.encode(), _code()):
        digest.update(hashlib.sha256(part).digest())
    return storage.join(config.output, masks.MODELS_FOLDER, f"{digest.hexdigest()}.json")


def recall(uri: str) -> ModelFacts | None:
    """Read facts; None where none are there, or something else is. Raises StorageError."""
    kept = storage.read_if_there(uri)
    try:
        return None if kept is None else build(ModelFacts, json.loads(kept), "facts")
    except (ConfigError, ValueError, RecursionError):
        return None


def keep(config: RunConfig, uri: str, facts: ModelFacts, check: Callable[[], None]) -> None:
    """Put facts, unless their file has changed since they were read; `check` as in put_checked. Raises as that does."""
    if place(config) == uri:
        put_checked(uri, json.dumps(asdict(facts)).encode(), check)


def _code() -> bytes:
    package = Path(__file__).parents[1]
    return b"\0".join(path.read_bytes() for path in sorted(package.rglob("*.py")))
