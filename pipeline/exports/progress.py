"""How far an export has come, noted at its destination."""

import json
from typing import Any

from pipeline import storage
from pipeline.errors import ConfigError, MissingError

_PROGRESS = "_export/progress.json"


def begun(destination: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Read how far an export has come, or begin it with a note, before any of its files.

    Raises:
        ConfigError: the destination holds another export, or files of something else.
    """
    uri = storage.join(destination, _PROGRESS)
    data = storage.read_if_there(uri)
    if data is None:
        return _new(destination, settings)
    try:
        done: dict[str, Any] = json.loads(data)
        before, counts = done["settings"], {name: int(done[name]) for name in ("parts", "without_picture")}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(f"{storage.redact(uri)} is damaged; export to another destination") from error
    if before != settings:
        changed = [
            name for name, value in settings.items() if not isinstance(before, dict) or before.get(name) != value
        ]
        what = "the output has other files by now" if changed == ["files"] else f"another {' and '.join(changed)}"
        raise ConfigError(
            f"{storage.redact(destination)} holds an export already, and not this one: {what}; give another destination"
        )
    return done | counts


def note(destination: str, done: dict[str, Any]) -> None:
    """Note how far an export has come."""
    storage.put_whole(storage.join(destination, _PROGRESS), json.dumps(done).encode())


def _new(destination: str, settings: dict[str, Any]) -> dict[str, Any]:
    try:
        found = next(storage.list_folder(destination, keeps=lambda name: not name.startswith(".")), None)
    except MissingError:
        found = None
    if found is not None:
        raise ConfigError(
            f"{storage.redact(destination)} holds {found.key!r} and no note of an export, which might replace what is "
            "there; give a destination that is empty"
        )
    done = {"settings": settings, "parts": 0, "without_picture": 0, "such_as": ""}
    note(destination, done)
    return done
