"""Read the files of a model's folder, which a stranger may have written."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.errors import WeightsError

_CHUNK_BYTES = 1 << 20


def json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises WeightsError where the file is missing or holds anything else."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise WeightsError(f"{path.parent} has no {path.name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} is no JSON object")
    return content


def config_has(place: str, key: str) -> bool:
    """Tell whether a place is a folder of this machine whose config.json has a key; False for whatever is none."""
    try:
        return "://" not in place and f'"{key}"'.encode() in (Path(place) / "config.json").read_bytes()
    except (OSError, ValueError):
        return False


def beside(folder: Path, name: object) -> Path:
    """Return the path of a file that another file of the folder names. Raises WeightsError where it leads outside."""
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".."):
        raise WeightsError(f"{folder} names the file {name!r}, outside it; a model keeps to its own folder")
    return folder / name


def digest_of(parts: Iterable[bytes], files: Iterable[Path]) -> str:
    """Compute the hex sha256 of settings and of files, in their order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\0")
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def named_once(names: Iterable[object]) -> tuple[str, ...]:
    """Return class names by class index; of those that repeat, the second and later ones get a number."""
    seen: dict[str, int] = {}
    result = []
    for one in names:
        name = " ".join(str(one).split()) or "unnamed"
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(result)
