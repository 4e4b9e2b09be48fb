"""The tables a run writes, their versions, and the note in each file's metadata."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from pipeline.errors import ConfigError, LostNoteError, OutputError

MASKS_FOLDER, ERRORS_FOLDER = "masks", "errors"
RUNS_FOLDER, INDEX_FOLDER, PARTS_FOLDER, MODELS_FOLDER = "_runs", "_index", "_parts", "_models"
STAGED_FOLDER, QUARANTINE_FOLDER = "_staged", "_quarantine"
_NOTED = (INDEX_FOLDER, PARTS_FOLDER, MODELS_FOLDER)
FOLDERS = (MASKS_FOLDER, ERRORS_FOLDER, RUNS_FOLDER, *_NOTED, STAGED_FOLDER, QUARANTINE_FOLDER)
"""All that a run writes lies in these, below its OUTPUT."""

SCHEMA_VERSION = 4
"""Version of the columns below, in the note of each file; a new column raises it. Files without one have version 1.

Since version 2 the key of an image in a shard begins with the shard's path; see DatasetInfo.image_key. Since version 3
a file may have the columns that DatasetInfo.carried names. Since version 4 it has confidence_map.
"""

_PNG = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as the `datasets` library stores images

MASKS_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("version", pa.string()),
        ("digest", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("mask", _PNG),
        ("confidence", pa.float32()),
        (
            "classes",
            pa.list_(
                pa.struct(
                    [("id", pa.int16()), ("name", pa.string()), ("pixels", pa.int64()), ("confidence", pa.float32())]
                )
            ),
        ),
        ("confidence_map", _PNG),
        ("model", pa.string()),
        ("run_id", pa.string()),
    ]
)
"""One row an image: OUTPUT/masks/*.parquet.

`mask` is an 8-bit palette PNG whose index is the class id. `confidence_map`, null where nobody asked for it, is an
8-bit grey PNG of the same size: 255 times the posterior of that class, rounded.
"""

ERRORS_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("key", "source", "version", "stage", "error", "message", "run_id")]
)
"""One row an image that could not be segmented: OUTPUT/errors/*.parquet."""

MASKS_REQUIRED = pa.schema(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("mask", pa.struct([("bytes", pa.binary())])),
        ("classes", pa.list_(pa.struct([("id", pa.int16()), ("pixels", pa.int64())]))),
    ]
)
ERRORS_REQUIRED = pa.schema([("key", pa.string()), ("version", pa.string())])
"""What a file of any version must have, here and above, for its rows to be read; see check_columns."""

_NOTE = b"segmentation"
_HUGGINGFACE_NOTE = b"huggingface"

_SAME_VALUES = (
    frozenset({pa.string(), pa.large_string(), pa.string_view()}),
    frozenset({pa.binary(), pa.large_binary(), pa.binary_view()}),
    frozenset({pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()}),
)
"""Arrow types that Python reads as one type."""


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What a file of masks was made with, kept in its metadata under the key `segmentation` as JSON.

    Attributes:
        classes: names, by class id.
        palette: (R, G, B) of each class.
        model: name of the model.
        model_digest: hex sha256 of its weights.
        network: what computed the logits, such as "resnet101, aspp"; empty in files written before this was noted.
        adapter: what ran a network of another framework, "none" for the project's own.
        crf: the dense CRF's parameters, None for the plain argmax, {name: parameters} for any other refiner.
        generation: hex digest of all that decides a mask: weights, inference settings and refiner.
        run_id: the run that wrote the file.
        created: when, ISO 8601 in UTC, as datetime.now(UTC).isoformat() gives it.
        input: the folder or prefix that keys are below, without credentials; empty where there is none.
        image_column: the column of images that a person chose; empty where there was no choice.
        again: digest of the file of keys whose images the run did again; empty where it did what had no row.
        carried: columns that a person had carried from a list, behind those of MASKS_SCHEMA: type by name, as Arrow
            calls it.
        schema_version: version of the file's columns, as SCHEMA_VERSION.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    model: str
    model_digest: str
    crf: dict[str, Any] | None
    generation: str
    run_id: str
    created: str
    input: str = ""
    image_column: str = ""
    network: str = ""
    adapter: str = "none"
    again: str = ""
    carried: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Raise ConfigError where the times of two files could not be compared, or colours are missing."""
        if datetime.fromisoformat(self.created).utcoffset() != timedelta(0):
            raise ConfigError(f"created must be an ISO 8601 time in UTC, not {self.created!r}")
        if len(self.classes) != len(self.palette):
            raise ConfigError(f"{len(self.classes)} classes need as many colours, not {len(self.palette)}")

    @property
    def masks_schema(self) -> pa.Schema:
        """Give the columns of the files of masks/ that this note is for."""
        return pa.schema([*MASKS_SCHEMA, *((name, pa.type_for_alias(kind)) for name, kind in self.carried.items())])

    def to_metadata(self, schema: pa.Schema = MASKS_SCHEMA) -> dict[bytes, bytes]:
        """Make the metadata of a file of `schema`: this note, and one by which `datasets` shows masks as images."""
        return {
            _NOTE: json.dumps(asdict(self)).encode(),
            _HUGGINGFACE_NOTE: json.dumps({"info": {"features": _features(schema)}}).encode(),
        }

    @classmethod
    def from_metadata(cls, metadata: dict[bytes, bytes] | None) -> "DatasetInfo":
        """Read the note from a file's schema metadata; fields that a later version has added are left out.

        Raises:
            LostNoteError: there is no note.
            OutputError: it is not whole.
        """
        if not metadata or _NOTE not in metadata:
            raise LostNoteError(
                "no 'segmentation' note in the file's metadata: another program wrote it, or wrote it anew as pandas "
                "does, which loses the note; put it back as it was, or move it away and run the job again"
            )
        try:
            note = {"schema_version": 1} | json.loads(metadata[_NOTE])
            note["classes"] = tuple(note["classes"])
            note["palette"] = tuple(tuple(colour) for colour in note["palette"])
            note["carried"] = dict(note.get("carried", {}))
            return cls(**{field.name: note[field.name] for field in fields(cls) if field.name in note})
        except (ConfigError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise OutputError(f"the 'segmentation' note in the file's metadata is damaged: {error}") from error

    def image_key(self, key: str, source: str | None) -> str:
        """Give the key that its image has today, by the `key` and `source` of a row in the file with this note.

        Before version 2 an image in a shard was called by its name there alone.
        """
        if self.schema_version > 1 or not self.input or not (source or "").startswith(f"{self.input}/"):
            return key
        path = (source or "").removeprefix(f"{self.input}/")
        return key if key == path or key.startswith(f"{path}#") else f"{path}/{key}"


def check_columns(schema: pa.Schema, required: pa.Schema) -> None:
    """Check that a file with the columns `schema` has those of `required`.

    Their order does not matter, nor how text, bytes, whole numbers and lists are stored (large_string, dictionary ...),
    nor what other columns there are: a later version may have added them, or a program that copied the file.

    Raises:
        OutputError: a column is missing, is there twice, or holds values of another kind.
    """
    for name, kind in zip(required.names, required.types, strict=True):
        count = len(schema.get_all_field_indices(name))
        if count != 1:
            columns = ", ".join(schema.names)
            raise OutputError(f"it must have one column {name}, and has {count}; its columns are {columns}")
        stored = schema.field(name).type
        if not _reads_as(stored, kind):
            raise OutputError(f"its column {name} is {stored}, which cannot be read as {kind}")


def _reads_as(stored: pa.DataType, required: pa.DataType) -> bool:
    """Tell whether values of type `stored` are the same in Python as those of type `required`."""
    if pa.types.is_dictionary(stored):
        return _reads_as(stored.value_type, required)
    if pa.types.is_struct(required):
        return pa.types.is_struct(stored) and all(
            stored.get_field_index(field.name) >= 0 and _reads_as(stored.field(field.name).type, field.type)
            for field in required
        )
    if pa.types.is_list(required):
        is_list = isinstance(stored, pa.ListType | pa.LargeListType | pa.FixedSizeListType)
        return is_list and _reads_as(stored.value_type, required.value_type)
    return any(stored in types and required in types for types in _SAME_VALUES)


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Describe the schema in the notation of the `datasets` library."""
    return {field.name: {"_type": "Image"} if field.type == _PNG else _feature(field.type) for field in schema}


def _feature(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return [_feature(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": {"float": "float32", "double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}
