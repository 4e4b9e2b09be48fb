"""Recounting an output, row by row, from its files alone."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from pipeline import storage
from pipeline.errors import ImageError, LostNoteError, OutputError, StorageError
from pipeline.masks.png import decode, decode_confidence
from pipeline.masks.reading import committed_entries
from pipeline.masks.schema import (
    ERRORS_FOLDER,
    ERRORS_REQUIRED,
    ERRORS_SCHEMA,
    MASKS_FOLDER,
    MASKS_REQUIRED,
    MASKS_SCHEMA,
    QUARANTINE_FOLDER,
    RUNS_FOLDER,
    STAGED_FOLDER,
    DatasetInfo,
    check_columns,
)

_ROWS_AT_ONCE = 64
_DAMAGE = (OSError, pa.ArrowException, OutputError, TypeError, ValueError)
"""Raised for the bytes of a file; what its storage raises is a StorageError."""

_NO_NOTE = (AttributeError, LookupError, TypeError, ValueError, RecursionError, yaml.YAMLError)
"""Raised for the bytes of a run's notes."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with the file at `uri`; `file` tells a file of rows that is to be set aside from all others."""

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
        replaced: rows that a later run has replaced: of images that changed, errors tried again, and keys done again.
        unknown_columns: names of columns that this code does not know; a later version wrote them, or another program.
        problems: what is wrong; empty for a sound output.
    """

    files: int
    segmented: int
    failed: int
    replaced: int
    unknown_columns: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, kw_only=True)
class _RowsFile:
    """A file of masks/, or of errors/ where `failed`, whose rows can be read; its note and its column names."""

    uri: str
    failed: bool
    info: DatasetInfo
    columns: tuple[str, ...]


@dataclass
class _Count:
    """The newest row of each key of each generation: version, failed, run, and what this did again.

    `retried` are runs that redid errors.
    """

    retried: frozenset[str] = frozenset()
    newest: dict[tuple[str, str], tuple[str, bool, str, str]] = field(default_factory=dict)
    replaced: int = 0

    def add(self, info: DatasetInfo, key: str, version: str, failed: bool) -> str:
        """Count a row, files coming oldest first; returns what is wrong with it, empty where nothing is."""
        before = self.newest.get((info.generation, key))
        self.newest[info.generation, key] = (version, failed, info.run_id, info.again)
        if before is None:
            return ""
        self.replaced += 1
        run = before[2]
        again = (before[1] and info.run_id in self.retried) or (info.again and info.again != before[3])
        if run == info.run_id or (before[0] == version and not again):
            return f"the key {key!r} has a second row, by run {info.run_id} after run {run}"
        return ""


def verify(uri: str) -> Verification:
    """Recount the output at `uri`: every file, every row, every mask.

    In each generation keys are unique, but for images that changed, errors tried again and keys done again; every PNG,
    confidence maps too, decodes to its height and width; pixel counts are those of the mask; there is a row for each
    image that a run which ended has listed, but for those that it has left to the next. Files of any schema version are
    judged by the columns that their rows need. Memory: the keys and versions of all rows.

    Raises:
        StorageError: the storage does not answer, or there is no output.
    """
    if not any(storage.exists(storage.join(uri, folder)) for folder in (MASKS_FOLDER, ERRORS_FOLDER, RUNS_FOLDER)):
        raise StorageError(f"no output at {storage.redact(uri)}: neither {MASKS_FOLDER}/ nor {RUNS_FOLDER}/ is there")
    problems: list[Problem] = []
    files: list[_RowsFile] = []
    committed = committed_entries(uri)
    for entry, failed in committed:
        try:
            files.append(_opened(entry.uri, failed))
        except LostNoteError as error:  # its rows are whole: a person may give it back its note
            problems.append(Problem(uri=entry.uri, what=str(error), file=False))
        except _DAMAGE as error:
            problems.append(Problem(uri=entry.uri, what=f"cannot be read: {error}"))
    for entry, failed in committed_entries(storage.join(uri, STAGED_FOLDER)):  # not in the count: a reader sees none
        try:
            problems += [
                Problem(uri=entry.uri, what=what) for what in _wrong_rows(_opened(entry.uri, failed), _Count())
            ]
        except _DAMAGE as error:
            problems.append(Problem(uri=entry.uri, what=f"cannot be read: {error}"))
    runs, unreadable = _runs(uri)
    problems += unreadable
    count = _Count(retried=frozenset(run.run_id for run in runs if run.retried))
    for file in sorted(files, key=lambda file: (file.info.created, file.uri)):
        problems += [Problem(uri=file.uri, what=what) for what in _wrong_rows(file, count)]
    problems += _lost(runs, Counter(generation for generation, _ in count.newest))
    failures = [failed for _, failed, *_ in count.newest.values()]
    return Verification(
        files=len(committed),
        segmented=failures.count(False),
        failed=failures.count(True),
        replaced=count.replaced,
        unknown_columns=tuple(sorted({name for file in files for name in _unknown_columns(file)})),
        problems=tuple(problems),
    )


def quarantine(uri: str, verification: Verification) -> list[str]:
    """Move the files with problems to _quarantine/ below the output, where no reader looks.

    The images they held have no row then: the next run does them again.

    Returns:
        The new URIs.

    Raises:
        StorageError: the storage does not answer, or refuses.
    """
    moved = []
    for bad in dict.fromkeys(problem.uri for problem in verification.problems if problem.file):
        new_uri = storage.join(uri, QUARANTINE_FOLDER, bad.removeprefix(f"{uri.rstrip('/')}/"))
        storage.put_whole(new_uri, storage.read_bytes(bad))
        storage.delete(bad)
        moved.append(new_uri)
    return moved


def _opened(uri: str, failed: bool) -> _RowsFile:
    """Read a file's note and columns. Raises what is in _DAMAGE."""
    with storage.opened(uri) as stream:
        schema = pq.read_schema(stream)
    check_columns(schema, ERRORS_REQUIRED if failed else MASKS_REQUIRED)
    info = DatasetInfo.from_metadata(schema.metadata)
    return _RowsFile(uri=uri, failed=failed, info=info, columns=tuple(schema.names))


def _unknown_columns(file: _RowsFile) -> set[str]:
    return set(file.columns) - set(ERRORS_SCHEMA.names if file.failed else (*MASKS_SCHEMA.names, *file.info.carried))


def _wrong_rows(file: _RowsFile, count: _Count) -> Iterator[str]:
    """Count the rows of a file; yields what is wrong with them."""
    columns = [*(ERRORS_REQUIRED if file.failed else MASKS_REQUIRED).names, "source", "confidence_map.bytes"]
    try:
        with storage.opened(file.uri) as stream, storage.parquet_file(stream) as table:
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    if row["key"] is None or row["version"] is None:
                        yield f"a row without a key or a version: key {row['key']!r}, version {row['version']!r}"
                        continue
                    key = file.info.image_key(row["key"], row.get("source"))
                    yield from filter(None, [count.add(file.info, key, row["version"], file.failed)])
                    yield from filter(None, [None if file.failed else _wrong_mask(row, len(file.info.classes))])
    except _DAMAGE as error:
        yield f"cannot be read: {error}"


def _wrong_mask(row: dict[str, Any], classes: int) -> str | None:
    """Compare a mask with what its row of masks/ says of it; returns what differs."""
    try:
        mask = _picture(row, "mask", decode)
        if row.get("confidence_map") is not None:
            _picture(row, "confidence_map", decode_confidence)
    except ImageError as error:
        return str(error)
    counts = np.bincount(mask.ravel())
    row_counts = {label["id"]: label["pixels"] for label in row["classes"] or ()}
    if row_counts != {int(label): int(counts[label]) for label in counts.nonzero()[0]} or len(counts) > classes:
        return f"the mask of {row['key']!r} has other classes or pixels than its row says"
    return None


def _picture(row: dict[str, Any], column: str, decoded: Callable[[bytes], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Decode a picture of a row. Raises ImageError where it is damaged, or of another size than the row says."""
    what, size = f"the {column.replace('_', ' ')} of {row['key']!r}", (row["height"], row["width"])
    try:
        picture = decoded((row[column] or {}).get("bytes") or b"")
    except ImageError as error:
        raise ImageError(f"{what}: {error}") from error
    if picture.shape != size:
        raise ImageError(f"{what} is {picture.shape}, and the row says {size}")
    return picture


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Notes of a run: whether it redid errors and, once it has ended, its generation and how many images are done."""

    uri: str
    run_id: str
    retried: bool
    generation: str | None
    done: int


def _runs(uri: str) -> tuple[list[_Run], list[Problem]]:
    """Read the notes of an output's runs; what is wrong with them comes second."""
    notes: dict[str, dict[str, str]] = defaultdict(dict)
    folder = storage.join(uri, RUNS_FOLDER)
    for entry in storage.list_folder(folder) if storage.exists(folder) else ():
        run, _, name = entry.key.partition("/")
        if name in ("config.yaml", "summary.json"):
            notes[run][name] = entry.uri
    runs, problems = [], []
    for run, files in notes.items():
        uri = files.get("summary.json", "")
        try:
            retried = bool(yaml.safe_load(storage.read_bytes(files["config.yaml"])).get("retry_errors"))
        except KeyError:  # there is none
            retried = False
        except _NO_NOTE as error:
            # without it the rows of errors that the run did again would be taken for wrong: it stays where it is
            problems.append(Problem(uri=files["config.yaml"], what=f"cannot be read: {error}", file=False))
            retried = True
        try:
            summary: Any = json.loads(storage.read_bytes(uri)) if uri else {"generation": None, "listed": 0}
            done = int(summary["listed"]) - int(summary.get("left", 0))
            runs.append(_Run(uri=uri, run_id=run, retried=retried, generation=summary["generation"], done=done))
        except _NO_NOTE as error:
            problems.append(Problem(uri=uri, what=f"cannot be read: {error}"))
            runs.append(_Run(uri=uri, run_id=run, retried=retried, generation=None, done=0))
    return runs, problems


def _lost(runs: Sequence[_Run], images: Counter[str]) -> Iterator[Problem]:
    """Yield a problem for each run that ended with more images done than its generation has rows."""
    for run in runs:
        if run.generation is not None and run.done > images[run.generation]:
            what = f"says that {run.done} images are done; {images[run.generation]} have a row; run the job again"
            yield Problem(uri=run.uri, what=what, file=False)
