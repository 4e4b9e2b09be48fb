"""What the runs of an output have noted beside it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline import masks, storage
from pipeline.errors import StorageError
from pipeline.masks import CommittedFile
from pipeline.numbers import is_number

_SHOWN = 20
_AS_IN_A_NAME = str.maketrans("", "", "-:")  # 2026-11-25T21:56:48 -> 20261125T215648


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


def run_notes(output: str, files: Iterable[CommittedFile]) -> list[RunNote]:
    """Read the notes of the newest runs of an output, newest first; a note that is damaged counts as lost.

    Args:
        output: of the runs.
        files: some that they have written. These tell the order, as that of rows; a name has the time of a clock, which
            may have been ahead.

    Raises:
        StorageError: the storage does not answer.
    """
    folder = storage.join(output, masks.RUNS_FOLDER)
    if not storage.exists(folder):
        return []
    notes: dict[str, set[str]] = {}
    for entry in storage.list_folder(folder):
        run, _, name = entry.key.partition("/")
        if name in ("config.yaml", "summary.json"):
            notes.setdefault(run, set()).add(name)
    created = {file.info.run_id: file.info.created.translate(_AS_IN_A_NAME) for file in files}
    return [
        RunNote(
            run_id=run,
            summary=_read(storage.join(folder, run, "summary.json")) if "summary.json" in notes[run] else {},
            config=_read(storage.join(folder, run, "config.yaml")) if "config.yaml" in notes[run] else {},
        )
        for run in sorted(notes, key=lambda run: created.get(run, run), reverse=True)[:_SHOWN]
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
