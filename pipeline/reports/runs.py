"""What the runs of an output have noted beside it."""

import json
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline import masks, storage
from pipeline.errors import StorageError
from pipeline.numbers import is_number

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class RunNote:
    """A run, by what it has noted: `summary` is empty where it did not come to an end, `config` where it is lost."""

    run_id: str
    summary: dict[str, Any]
    config: dict[str, Any]

    @property
    def plan(self) -> str:
        """Say how many actors did what; empty where there was nothing to do."""
        return _listed(self.summary.get("plan")).replace("_", " ")

    @property
    def node_seconds(self) -> str:
        """Say how long nodes of each type were there, in seconds."""
        return _listed(self.summary.get("node_seconds"))


def run_notes(output: str) -> list[RunNote]:
    """Read the notes of the newest runs of an output, newest first; a note that is damaged counts as lost.

    Raises:
        StorageError: the storage does not answer.
    """
    folder = storage.join(output, masks.RUNS_FOLDER)
    if not storage.exists(folder):
        return []
    files: dict[str, set[str]] = {}
    for entry in storage.list_folder(folder):
        run, _, name = entry.key.partition("/")
        if name in ("config.yaml", "summary.json"):
            files.setdefault(run, set()).add(name)
    return [
        RunNote(
            run_id=run,
            summary=_read(storage.join(folder, run, "summary.json")) if "summary.json" in files[run] else {},
            config=_read(storage.join(folder, run, "config.yaml")) if "config.yaml" in files[run] else {},
        )
        for run in sorted(files, reverse=True)[:_SHOWN]
    ]


def _listed(numbers: object) -> str:
    """Write a note of numbers by name as `name number, name number`; empty where it is something else."""
    named = numbers.items() if isinstance(numbers, dict) else ()
    return ", ".join(f"{name} {value:g}" for name, value in named if is_number(value))


def _read(uri: str) -> dict[str, Any]:
    try:
        data = storage.read_bytes(uri)
        note = json.loads(data) if uri.endswith(".json") else yaml.safe_load(data)
    except StorageError:
        raise
    except (ValueError, RecursionError, yaml.YAMLError):
        return {}
    return note if isinstance(note, dict) else {}
