"""An output recounted, row by row, from its files alone."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import ImageError, OutputError
from pipeline.masks.png import decode
from pipeline.masks.schema import ERRORS_FOLDER, ERRORS_SCHEMA, MASKS_FOLDER, MASKS_SCHEMA, DatasetInfo

_QUARANTINE = "_quarantine"
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
    """The newest row of each key of each generation as (version, failed, run), and the rows of each run."""

    newest: dict[tuple[str, str], tuple[str, bool, str]] = field(default_factory=dict)
    runs: Counter[tuple[str, bool]] = field(default_factory=Counter)
    replaced: int = 0

    def add(self, info: DatasetInfo, key: str, version: str, failed: bool) -> str:
        """Count a row, files coming oldest first; returns what is wrong with it, or nothing."""
        before = self.newest.get((info.generation, key))
        self.newest[info.generation, key] = (version, failed, info.run_id)
        self.runs[info.run_id, failed] += 1
        if before is None:
            return ""
        self.replaced += 1
        same_version, had_failed, run = before[0] == version, before[1], before[2]
        if run == info.run_id or (same_version and not had_failed):
            return f"the key {key!r} has a second row, by run {info.run_id} after run {run}"
        return ""


def verify(uri: str) -> Verification:
    """Recount the output at `uri`: every file, every row, every mask.

    In each generation keys are unique, but for images that changed and errors tried again; every PNG decodes to its
    height and width; pixel counts are those of the mask; each run that ended has the rows it said it has. Memory: the
    keys and versions of all rows.

    Raises:
        StorageError: the storage does not answer.
    """
    problems: list[Problem] = []
    files: list[tuple[DatasetInfo, str, bool]] = []
    found = [(entry.uri, folder == ERRORS_FOLDER) for folder, entry in _files(uri)]
    for file, failed in found:
        try:
            files.append((_note(file, failed), file, failed))
        except _DAMAGE as error:
            problems.append(Problem(uri=file, what=f"cannot be read: {error}"))
    count = _Count()
    for info, file, failed in sorted(files, key=lambda one: (one[0].created, one[1])):
        problems += [Problem(uri=file, what=what) for what in _wrong(info, file, failed, count)]
    problems += _wrong_counts(uri, count)
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
        place = storage.join(uri, _QUARANTINE, bad.removeprefix(uri.rstrip("/")))
        storage.put_whole(place, storage.read_bytes(bad))
        storage.delete(bad)
        moved.append(place)
    return moved


def _files(uri: str) -> Iterator[tuple[str, storage.Entry]]:
    for folder in (MASKS_FOLDER, ERRORS_FOLDER):
        if storage.exists(storage.join(uri, folder)):
            for entry in storage.list_files(storage.join(uri, folder)):
                if not entry.key.rpartition("/")[2].startswith("_"):
                    yield folder, entry


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


def _wrong_counts(uri: str, count: _Count) -> Iterator[Problem]:
    """Runs whose summary says other counts than their files hold; not of those a file was taken from."""
    if not storage.exists(storage.join(uri, "_runs")):
        return
    aside = [e.key.rpartition("/")[2] for e in storage.list_files(uri) if e.key.startswith(f"{_QUARANTINE}/")]
    for entry in storage.list_files(storage.join(uri, "_runs")):
        run, _, name = entry.key.partition("/")
        if name != "summary.json" or any(file.startswith(run) for file in aside):
            continue
        said = json.loads(storage.read_bytes(entry.uri))
        held = (count.runs[run, False], count.runs[run, True])
        if held != (said["segmented"], said["failed"]):
            claim = f"says {said['segmented']} segmented and {said['failed']} failed"
            what = f"{claim}; its files hold {held[0]} and {held[1]}"
            yield Problem(uri=entry.uri, what=what, file=False)
        if said["listed"] != said["skipped"] + said["segmented"] + said["failed"]:
            what = f"{said['listed']} listed is not {said['skipped']} + {said['segmented']} + {said['failed']}"
            yield Problem(uri=entry.uri, what=what, file=False)
