"""Reading an output: its committed files, newest first, and the masks in them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import storage
from pipeline.errors import ConfigError, ImageError, LostNoteError, OutputError, StorageError
from pipeline.masks.png import decode, decode_confidence
from pipeline.masks.schema import ERRORS_FOLDER, MASKS_FOLDER, DatasetInfo

_READERS = 16
_BATCH_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class CommittedFile:
    """A file of masks/, or of errors/ where `failed`, with its note.

    Attributes:
        size: in bytes.
        keys: the least and the greatest key in it, as text is sorted; None where that is not known.
    """

    uri: str
    info: DatasetInfo
    failed: bool
    size: int = 0
    keys: tuple[str, str] | None = None

    def may_hold(self, least: str, greatest: str) -> bool:
        """Tell whether a key from `least` to `greatest` may be in the file."""
        return self.keys is None or (self.keys[0] <= greatest and least <= self.keys[1])


def generations(uri: str) -> list[DatasetInfo]:
    """List the generations of masks at `uri`, newest first; each with the note of its newest file.

    Raises:
        StorageError: as `read` does.
    """
    newest: dict[str, DatasetInfo] = {}
    for file in _files_with_masks(uri):
        if not file.failed:
            newest.setdefault(file.info.generation, file.info)
    return list(newest.values())


def read(uri: str, generation: str | None = None) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Stream the masks of one generation with their keys; see `read_with_sources`.

    Yields:
        key, mask (H, W) uint8.
    """
    return ((key, mask) for key, _, mask in read_with_sources(uri, generation))


def read_with_sources(uri: str, generation: str | None = None) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    """Stream the masks of one generation with their keys, and the files that their pictures came from.

    Where runs of one generation met the same key, the newest row counts: a key whose newest row is in errors/ has no
    mask. Memory: a few dozen rows, and the keys seen so far where the generation has more than one run.

    Args:
        uri: the OUTPUT of a run, its masks/ folder, or one of the files in there; any storage.
        generation: as in DatasetInfo; by default the newest.

    Yields:
        key, URI of the source, mask (H, W) uint8; the URI is redacted, and empty where the file has no such column.

    Raises:
        ConfigError: no such generation.
        StorageError: no masks there, or a file that cannot be read.
    """
    return _rows(generation_files(uri, generation), "mask", decode)


def read_confidence(uri: str, generation: str | None = None) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Stream the confidence maps of one generation with their keys, where a run was asked for them.

    Args:
        uri: as in `read_with_sources`.
        generation: as there.

    Yields:
        key, (H, W) uint8: 255 times the posterior of the class in the mask, rounded.

    Raises:
        PipelineError: as `read_with_sources` does.
    """
    maps = _rows(generation_files(uri, generation), "confidence_map", decode_confidence)
    return ((key, confidence) for key, _, confidence in maps)


def generation_files(uri: str, generation: str | None = None) -> list[CommittedFile]:
    """List the files of one generation, by default the newest, at `uri` as in `read_with_sources`; newest first.

    Raises:
        PipelineError: as `read_with_sources` does.
    """
    files = _files_with_masks(uri)
    written = list(dict.fromkeys(file.info.generation for file in files if not file.failed))
    generation = written[0] if generation is None else generation
    if generation not in written:
        raise ConfigError(
            f"no masks of generation {generation} at {storage.redact(uri)}; there are: {', '.join(written)}"
        )
    return [file for file in files if file.info.generation == generation]


def _rows(
    files: Sequence[CommittedFile], column: str, decoded: Callable[[bytes], NDArray[np.uint8]]
) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    """Stream key, source and the picture in `column` of the newest row of each key, where it is not null."""
    repeats, seen = len({file.info.run_id for file in files}) > 1, set[str]()
    for file in files:
        if file.failed:
            keys = read_columns(file.uri, ["key", "source"], lacking=("source",)) if repeats else ()
            seen.update(file.info.image_key(*row) for row in keys)
            continue
        columns = ["key", "source", f"{column}.bytes"]
        for written, source, png in read_columns(file.uri, columns, _BATCH_ROWS, lacking=("source", "confidence_map")):
            key = file.info.image_key(written, source)
            if repeats:
                if key in seen:
                    continue
                seen.add(key)
            if png is None and column == "confidence_map":
                continue
            try:
                picture = decoded(png)
            except ImageError as error:
                what = column.replace("_", " ")
                raise StorageError(
                    f"the {what} of {key!r} in {storage.redact(file.uri)} is damaged: {error}"
                ) from error
            yield key, source or "", picture


def read_columns(
    uri: str, columns: list[str], rows_at_once: int = 1024, lacking: Sequence[str] = ()
) -> Iterator[tuple[Any, ...]]:
    """Stream the values of `columns`, as dotted paths, in each row of one file.

    Columns in `lacking` are None where the file has none. Memory: of pictures a buffer or a page, of small values all.

    Raises:
        StorageError: the file cannot be read.
    """
    parquet_file = storage.parquet_file if any(name.endswith(".bytes") for name in columns) else pq.ParquetFile
    try:
        with storage.opened(uri) as stream, parquet_file(stream) as table:
            for batch in table.iter_batches(batch_size=rows_at_once, columns=columns):
                yield from zip(*(_values(batch, column, lacking) for column in columns), strict=True)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise StorageError(f"cannot read the masks in {storage.redact(uri)}: {error}") from error


def _values(batch: pa.RecordBatch, column: str, lacking: Sequence[str]) -> list[Any]:
    name, _, field = column.partition(".")
    if name in lacking and name not in batch.schema.names:
        return [None] * batch.num_rows
    values = batch.column(name)
    return list((values.field(field) if field else values).to_pylist())


def committed_files(output: str) -> list[CommittedFile]:
    """List the files of masks/ and errors/ below `output`, newest first, with their notes. Raises StorageError."""
    return _with_notes(committed_entries(output))


def committed_entries(output: str) -> list[tuple[storage.Entry, bool]]:
    """List the files of masks/ and errors/ below `output`, and whether they are in errors/. Raises StorageError."""
    return [
        (entry, folder == ERRORS_FOLDER)
        for folder in (MASKS_FOLDER, ERRORS_FOLDER)
        if storage.exists(storage.join(output, folder))
        for entry in storage.list_folder(storage.join(output, folder))
        if _is_committed(entry.key)
    ]


def _files_with_masks(uri: str) -> list[CommittedFile]:
    """List the files at `uri`, an OUTPUT, a folder or a file, newest first. Raises StorageError where no masks are."""
    files = committed_files(uri)
    if not any(not file.failed for file in files):
        here = [entry for entry in storage.list_folder(uri) if "/" not in entry.key and _is_committed(entry.key)]
        files = _with_notes([(entry, False) for entry in here])
    if not files:
        raise StorageError(f"no masks at {storage.redact(uri)}: expected Parquet files there or in masks/ below it")
    return files


def _with_notes(entries: Sequence[tuple[storage.Entry, bool]]) -> list[CommittedFile]:
    """Read the files' footers; newest first."""
    with ThreadPoolExecutor(_READERS) as pool:  # a footer each: on a bucket the time is all waiting
        footers = pool.map(_read_footer, [entry.uri for entry, _ in entries])
        infos: dict[str, DatasetInfo] = {}
        committed = []
        for (entry, failed), (read_info, keys) in zip(entries, footers, strict=True):
            info = infos.setdefault(read_info.run_id, read_info)
            info = info if info == read_info else read_info  # the files of a run share one in memory
            committed.append(CommittedFile(uri=entry.uri, info=info, failed=failed, size=entry.size, keys=keys))
    return sorted(committed, key=lambda file: (file.info.created, file.uri), reverse=True)


def _is_committed(key: str) -> bool:
    """Tell whether a path is that of a whole file: one under way, or set aside, has a hidden part in its path."""
    return key.endswith(".parquet") and not any(part.startswith(("_", ".")) for part in key.split("/"))


def _read_footer(uri: str) -> tuple[DatasetInfo, tuple[str, str] | None]:
    try:
        with storage.opened(uri) as stream, pq.ParquetFile(stream) as file:
            info = DatasetInfo.from_metadata(file.schema_arrow.metadata)
            return info, None if info.schema_version == 1 else key_range(file.metadata)
    except LostNoteError as error:
        raise StorageError(f"cannot read the masks in {storage.redact(uri)}: {error}") from error
    except (OSError, pa.ArrowException, OutputError) as error:
        raise StorageError(
            f"cannot read the masks in {storage.redact(uri)}: {error}; "
            "`deeplab-buckets verify --repair` sets damaged files aside"
        ) from error


def key_range(metadata: pq.FileMetaData) -> tuple[str, str] | None:
    """Give the least and the greatest key by the statistics of a file; None where it has none, as of very long keys.

    Raises:
        OSError, ArrowException: the footer is damaged, or the keys are encrypted.
    """
    paths = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
    if not metadata.num_row_groups or "key" not in paths:
        return None
    columns = list(storage.column_chunks(metadata, "key"))
    try:
        if all(column.is_stats_set and column.statistics.has_min_max for column in columns):
            return min(column.statistics.min for column in columns), max(column.statistics.max for column in columns)
    except UnicodeDecodeError:  # a writer has cut them in the middle of a letter
        pass
    return None
