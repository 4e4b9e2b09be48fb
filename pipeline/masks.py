"""The masks a run writes: table schemas, palette PNGs, the note in every file's metadata, and reading masks back."""

import io
import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from pipeline import storage
from pipeline.errors import ConfigError, ImageError, StorageError

MASKS_FOLDER, ERRORS_FOLDER = "masks", "errors"
"""Below a run's OUTPUT."""

MASKS_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("version", pa.string()),
        ("digest", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("mask", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("confidence", pa.float32()),
        (
            "classes",
            pa.list_(
                pa.struct(
                    [("id", pa.int16()), ("name", pa.string()), ("pixels", pa.int64()), ("confidence", pa.float32())]
                )
            ),
        ),
        ("model", pa.string()),
        ("run_id", pa.string()),
    ]
)
"""One row an image: OUTPUT/masks/*.parquet. `mask` is an 8-bit palette PNG whose index is the class id."""

ERRORS_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("key", "source", "version", "stage", "error", "message", "run_id")]
)
"""One row an image that could not be segmented: OUTPUT/errors/*.parquet."""

IGNORE = 255
"""Label of pixels in a ground truth that no loss and no score counts."""

_NOTE = b"segmentation"
_HUGGINGFACE_NOTE = b"huggingface"
_READERS = 16
_BATCH_ROWS = 64
_BUFFER_BYTES = 2**20


def pascal_palette(n: int = 256) -> NDArray[np.uint8]:
    """Colours (n, 3) uint8 of the PASCAL VOC development kit: the bits of a class id dealt to R, G, B in turn."""
    ids = np.arange(n)
    palette = np.zeros((n, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def encode(mask: NDArray[np.uint8], palette: Sequence[Sequence[int]] | NDArray[np.uint8]) -> bytes:
    """An 8-bit palette PNG of a mask (H, W) uint8; indices past the end of `palette` get their PASCAL colours.

    Rows are coded as differences from the row above, then run lengths: on label masks as small as zlib's default
    search at a fifth of its time.

    Raises:
        ImageError: not (H, W) uint8, or empty.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8 or mask.size == 0:
        raise ImageError(f"a mask is (H, W) uint8, not {mask.shape} {mask.dtype}")
    height, width = mask.shape
    colours = pascal_palette(max(len(palette), int(mask.max()) + 1))
    colours[: len(palette)] = palette
    rows = np.empty((height, 1 + width), np.uint8)
    rows[:, 0] = 2  # PNG filter type Up
    rows[0, 1:] = mask[0]
    np.subtract(mask[1:], mask[:-1], out=rows[1:, 1:])
    deflate = zlib.compressobj(strategy=zlib.Z_RLE)
    pixels = deflate.compress(rows.data) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # depth 8, colour type 3: palette
    chunks = ((b"IHDR", header), (b"PLTE", colours.tobytes()), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def decode(png: bytes) -> NDArray[np.uint8]:
    """The class ids (H, W) uint8 of a palette PNG.

    Raises:
        ImageError: not a PNG, damaged, or without a palette, so that its values are brightness and not class ids.
    """
    try:
        with PngImageFile(io.BytesIO(png)) as image:
            if image.mode != "P":
                raise ImageError(f"a mask is a palette PNG (mode P); this one has mode {image.mode}, not class ids")
            return np.array(image)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them raise
        raise ImageError(f"the mask is not a readable PNG: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What a file of masks was made with, kept in its metadata under the key `segmentation` as JSON.

    Attributes:
        classes: names, by class id.
        palette: (R, G, B) of each class.
        model: name of the model.
        model_digest: hex sha256 of its weights.
        crf: the CRF's parameters, None for a run without it.
        generation: hex digest of all that decides a mask: weights, inference settings and CRF.
        run_id: the run that wrote the file.
        created: when, ISO 8601 in UTC, as datetime.now(UTC).isoformat() gives it.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    model: str
    model_digest: str
    crf: dict[str, Any] | None
    generation: str
    run_id: str
    created: str

    def __post_init__(self) -> None:
        """Raise ConfigError where the times of two files could not be compared, or colours are missing."""
        if datetime.fromisoformat(self.created).utcoffset() != timedelta(0):
            raise ConfigError(f"created must be an ISO 8601 time in UTC, not {self.created!r}")
        if len(self.classes) != len(self.palette):
            raise ConfigError(f"{len(self.classes)} classes need as many colours, not {len(self.palette)}")

    def to_metadata(self, schema: pa.Schema = MASKS_SCHEMA) -> dict[bytes, bytes]:
        """Metadata for a file of `schema`: this note, and Hugging Face's, by which `datasets` shows masks as images."""
        return {
            _NOTE: json.dumps(asdict(self)).encode(),
            _HUGGINGFACE_NOTE: json.dumps({"info": {"features": _features(schema)}}).encode(),
        }

    @classmethod
    def from_metadata(cls, metadata: dict[bytes, bytes] | None) -> "DatasetInfo":
        """The note back from a file's schema metadata. Raises StorageError where there is none."""
        if not metadata or _NOTE not in metadata:
            raise StorageError("no 'segmentation' note in the file's metadata: it was not written by this pipeline")
        note = json.loads(metadata[_NOTE])
        note["classes"] = tuple(note["classes"])
        note["palette"] = tuple(tuple(colour) for colour in note["palette"])
        return cls(**note)


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The schema in the notation of the `datasets` library."""
    return {field.name: {"_type": "Image"} if field.name == "mask" else _feature(field.type) for field in schema}


def _feature(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return [_feature(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": "float32" if kind == pa.float32() else str(kind), "_type": "Value"}


@dataclass(frozen=True, kw_only=True)
class CommittedFile:
    """A file of masks/, or of errors/ where `failed`, with its note."""

    uri: str
    info: DatasetInfo
    failed: bool


def generations(uri: str) -> list[DatasetInfo]:
    """The generations of masks at `uri`, newest first; each with the note of its newest file.

    Raises:
        StorageError: as `read` does.
    """
    newest: dict[str, DatasetInfo] = {}
    for file in _files_with_masks(uri):
        if not file.failed:
            newest.setdefault(file.info.generation, file.info)
    return list(newest.values())


def read(uri: str, generation: str | None = None) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Stream the masks of one generation.

    Where runs of one generation met the same key, the newest row counts: a key whose newest row is in errors/ has no
    mask. Memory: a few dozen rows, and the keys seen so far where the generation has more than one run.

    Args:
        uri: the OUTPUT of a run, its masks/ folder, or one of the files in there; any storage.
        generation: as in DatasetInfo; by default the newest.

    Yields:
        key, mask (H, W) uint8.

    Raises:
        StorageError: no masks there, no such generation, or a file that cannot be read.
    """
    files = _files_with_masks(uri)
    known_generations = list(dict.fromkeys(file.info.generation for file in files if not file.failed))
    wanted = known_generations[0] if generation is None else generation
    chosen = [file for file in files if file.info.generation == wanted]
    if wanted not in known_generations:
        known = ", ".join(known_generations)
        raise StorageError(f"no masks of generation {wanted} at {storage.redact(uri)}; there are: {known}")
    return _rows(chosen, repeats=len({file.info.run_id for file in chosen}) > 1)


def _rows(files: Iterable[CommittedFile], repeats: bool) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    seen: set[str] = set()
    for file in files:
        if file.failed:
            seen.update(key for (key,) in read_columns(file.uri, ["key"]) if repeats)
            continue
        for key, png in read_columns(file.uri, ["key", "mask.bytes"], _BATCH_ROWS):
            if repeats:
                if key in seen:
                    continue
                seen.add(key)
            try:
                mask = decode(png)
            except ImageError as error:
                raise StorageError(f"the mask of {key!r} in {storage.redact(file.uri)} is damaged: {error}") from error
            yield key, mask


def read_columns(uri: str, columns: list[str], rows_at_once: int = 1024) -> Iterator[tuple[Any, ...]]:
    """The values of `columns`, as dotted paths, in each row of one file; a buffer of the file at a time.

    Raises:
        StorageError: the file cannot be read.
    """
    filesystem, path = storage.arrow_filesystem(uri)
    try:
        with pq.ParquetFile(path, filesystem=filesystem, buffer_size=_BUFFER_BYTES) as table:
            for batch in table.iter_batches(batch_size=rows_at_once, columns=columns):
                yield from zip(*(_values(batch, column) for column in columns), strict=True)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise StorageError(f"cannot read the masks in {storage.redact(uri)}: {error}") from error


def _values(batch: pa.RecordBatch, column: str) -> list[Any]:
    name, _, field = column.partition(".")
    values = batch.column(name)
    return list((values.field(field) if field else values).to_pylist())


def committed_files(output: str) -> list[CommittedFile]:
    """The files of masks/ and errors/ below `output`, newest first, each with its note. Raises StorageError."""
    found = [
        (entry.uri, folder == ERRORS_FOLDER)
        for folder in (MASKS_FOLDER, ERRORS_FOLDER)
        if storage.exists(storage.join(output, folder))
        for entry in storage.list_files(storage.join(output, folder))
        if _is_committed(entry.key)
    ]
    return _with_notes(found)


def _files_with_masks(uri: str) -> list[CommittedFile]:
    """The files at `uri`, an OUTPUT, a folder or a file, newest first. Raises StorageError where no masks are."""
    files = committed_files(uri)
    if not any(not file.failed for file in files):
        here = [entry for entry in storage.list_files(uri) if "/" not in entry.key and _is_committed(entry.key)]
        files = _with_notes([(entry.uri, False) for entry in here])
    if not files:
        raise StorageError(f"no masks at {storage.redact(uri)}: expected Parquet files there or in masks/ below it")
    return files


def _with_notes(files: Sequence[tuple[str, bool]]) -> list[CommittedFile]:
    with ThreadPoolExecutor(_READERS) as pool:  # a footer each: on a bucket the time is all waiting
        infos = pool.map(_read_info, [uri for uri, _ in files])
        noted = [CommittedFile(uri=u, info=i, failed=f) for (u, f), i in zip(files, infos, strict=True)]
    return sorted(noted, key=lambda file: (file.info.created, file.uri), reverse=True)


def _is_committed(key: str) -> bool:
    """Whether a path is that of a whole file: what is under way, or set aside, has a hidden name on its way."""
    return key.endswith(".parquet") and not any(part.startswith(("_", ".")) for part in key.split("/"))


def _read_info(uri: str) -> DatasetInfo:
    filesystem, path = storage.arrow_filesystem(uri)
    try:
        metadata = pq.read_schema(path, filesystem=filesystem).metadata
        return DatasetInfo.from_metadata(metadata)
    except (OSError, pa.ArrowException, StorageError) as error:
        raise StorageError(f"cannot read the masks in {storage.redact(uri)}: {error}") from error
