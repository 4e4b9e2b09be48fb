"""An output recounted, row by row, from its files alone."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline import storage
from pipeline.errors import ImageError, OutputError, StorageError
from pipeline.masks.png import decode
from pipeline.masks.reading import committed_uris
from pipeline.masks.schema import (
    ERRORS_FOLDER,
    ERRORS_SCHEMA,
    MASKS_FOLDER,
    MASKS_SCHEMA,
    QUARANTINE_FOLDER,
    RUNS_FOLDER,
    DatasetInfo,
)

_ROWS_AT_ONCE = 64
_DAMAGE = (OSError, pa.ArrowException, OutputError, TypeError, ValueError)
"""What a file's own bytes provoke; what its storage provokes is a StorageError."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with the file at `uri`; `file` tells a file of rows, which can be set aside, from a run's note."""

    uri: str
    what: str
    file: bool = True


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What an output holds.

    Attributes:
        files: of masks/ and errors/.
        segmented: images whose newest row is in masks/, in all generations.
        failed: images whose newest row is in errors/, in all generations.
        replaced: rows that a later run has replaced: of images that changed, and of errors tried again.
        problems: what is wrong; empty for a sound output.
    """

    files: int
    segmented: int
    failed: int
    replaced: int
    problems: tuple[Problem, ...]


@dataclass
class _Count:
    """The newest row of each key of each generation as (version, failed, run); `retried` are runs that redid errors."""

    retried: frozenset[str]
    newest: dict[tuple[str, str], tuple[str, bool, str]] = field(default_factory=dict)
    replaced: int = 0

    def add(self, info: DatasetInfo, key: str, version: str, failed: bool) -> str:
        """Count a row, files coming oldest first; returns what is wrong with it, or nothing."""
        before = self.newest.get((info.generation, key))
        self.newest[info.generation, key] = (version, failed, info.run_id)
        if before is None:
            return ""
        self.replaced += 1
        run, again = before[2], before[1] and info.run_id in self.retried
        if run == info.run_id or (before[0] == version and not again):
            return f"the key {key!r} has a second row, by run {info.run_id} after run {run}"
        return ""


def verify(uri: str) -> Verification:
    """Recount the output at `uri`: every file, every row, every mask.

    In each generation keys are unique, but for images that changed and errors tried again; every PNG decodes to its
    height and width; pixel counts are those of the mask; there is a row for each image that a run which ended has
    listed. Memory: the keys and versions of all rows.

    Raises:
        StorageError: the storage does not answer, or there is no output.
    """
    if not any(storage.exists(storage.join(uri, folder)) for folder in (MASKS_FOLDER, ERRORS_FOLDER, RUNS_FOLDER)):
        raise StorageError(f"no output at {storage.redact(uri)}: neither {MASKS_FOLDER}/ nor {RUNS_FOLDER}/ is there")
    problems: list[Problem] = []
    files: list[tuple[DatasetInfo, str, bool]] = []
    found = committed_uris(uri)
    for file, failed in found:
        try:
            files.append((_note(file, failed), file, failed))
        except _DAMAGE as error:
            problems.append(Problem(uri=file, what=f"cannot be read: {error}"))
    runs, unreadable = _runs(uri)
    problems += unreadable
    count = _Count(retried=frozenset(run.run_id for run in runs if run.retried))
    for info, file, failed in sorted(files, key=lambda one: (one[0].created, one[1])):
        problems += [Problem(uri=file, what=what) for what in _wrong(info, file, failed, count)]
    problems += _lost(runs, Counter(generation for generation, _ in count.newest))
    failures = [failed for _, failed, _ in count.newest.values()]
    return Verification(
        files=len(found),
        segmented=failures.count(False),
        failed=failures.count(True),
        replaced=count.replaced,
        problems=tuple(problems),
    )


def quarantine(uri: str, verification: Verification) -> list[str]:
    """Move the files with problems to _quarantine/ below the output, where no reader looks; returns their new places.

    The images they held have no row then: the next run does them again. Raises StorageError.
    """
    moved = []
    for bad in dict.fromkeys(problem.uri for problem in verification.problems if problem.file):
        place = storage.join(uri, QUARANTINE_FOLDER, bad.removeprefix(f"{uri.rstrip('/')}/"))
        storage.put_whole(place, storage.read_bytes(bad))
        storage.delete(bad)
        moved.append(place)
    return moved


def _note(file: str, failed: bool) -> DatasetInfo:
    with storage.opened(file) as stream:
        schema = pq.read_schema(stream)
    if not schema.equals(ERRORS_SCHEMA if failed else MASKS_SCHEMA):
        raise OutputError(f"its columns are {', '.join(f'{f.name}: {f.type}' for f in schema)}")
    return DatasetInfo.from_metadata(schema.metadata)


def _wrong(info: DatasetInfo, file: str, failed: bool, count: _Count) -> Iterator[str]:
    columns = ["key", "version"] if failed else ["key", "version", "height", "width", "mask", "classes"]
    try:
        with storage.opened(file) as stream, pq.ParquetFile(stream) as table:
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    yield from filter(None, [count.add(info, row["key"], row["version"], failed)])
                    yield from filter(None, [None if failed else _wrong_mask(row, len(info.classes))])
    except _DAMAGE as error:
        yield f"cannot be read: {error}"


def _wrong_mask(row: dict[str, Any], classes: int) -> str | None:
    """What is wrong with a row of masks/."""
    try:
        mask = decode(row["mask"]["bytes"] or b"")
    except ImageError as error:
        return f"the mask of {row['key']!r}: {error}"
    if mask.shape != (row["height"], row["width"]):
        return f"the mask of {row['key']!r} is {mask.shape}, and the row says {(row['height'], row['width'])}"
    counted = np.bincount(mask.ravel())
    said = {found["id"]: found["pixels"] for found in row["classes"]}
    if said != {int(i): int(counted[i]) for i in counted.nonzero()[0]} or len(counted) > classes:
        return f"the mask of {row['key']!r} has other classes or pixels than its row says"
    return None


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What is noted of a run: whether it redid errors and, once it has ended, its generation and what it listed."""

    uri: str
    run_id: str
    retried: bool
    generation: str | None
    listed: int


def _runs(uri: str) -> tuple[list[_Run], list[Problem]]:
    """The runs of an output, and what is wrong with their notes."""
    notes: dict[str, dict[str, str]] = defaultdict(dict)
    folder = storage.join(uri, RUNS_FOLDER)
    for entry in storage.list_folder(folder) if storage.exists(folder) else ():
        run, _, name = entry.key.partition("/")
        if name in ("config.yaml", "summary.json"):
            notes[run][name] = entry.uri
    runs, problems = [], []
    for run, files in notes.items():
        place = files.get("summary.json", "")
        try:
            config = yaml.safe_load(storage.read_bytes(files["config.yaml"])) if "config.yaml" in files else {}
            said: Any = json.loads(storage.read_bytes(place)) if place else {"generation": None, "listed": 0}
            retried, listed = bool(config.get("retry_errors")), int(said["listed"])
            runs.append(_Run(uri=place, run_id=run, retried=retried, generation=said["generation"], listed=listed))
        except (AttributeError, LookupError, TypeError, ValueError, yaml.YAMLError) as error:
            problems.append(Problem(uri=place or files["config.yaml"], what=f"cannot be read: {error}"))
    return runs, problems


def _lost(runs: Sequence[_Run], images: Counter[str]) -> Iterator[Problem]:
    """Images that a run which ended has listed, and that have no row in its generation."""
    for run in runs:
        if run.generation is not None and run.listed > images[run.generation]:
            what = f"says that {run.listed} images were listed; {images[run.generation]} have a row; run the job again"
            yield Problem(uri=run.uri, what=what, file=False)
