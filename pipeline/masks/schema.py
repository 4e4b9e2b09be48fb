"""The tables a run writes, and the note in each file's metadata."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from pipeline.errors import ConfigError, OutputError

MASKS_FOLDER, ERRORS_FOLDER = "masks", "errors"
RUNS_FOLDER, INDEX_FOLDER, QUARANTINE_FOLDER = "_runs", "_index", "_quarantine"
FOLDERS = (MASKS_FOLDER, ERRORS_FOLDER, RUNS_FOLDER, INDEX_FOLDER, QUARANTINE_FOLDER)
"""All that a run writes lies in these, below its OUTPUT."""

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

_NOTE = b"segmentation"
_HUGGINGFACE_NOTE = b"huggingface"


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
        input: the folder or prefix that keys are below, without credentials; empty where there is none.
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
        """The note back from a file's schema metadata. Raises OutputError where there is none, or no whole one."""
        if not metadata or _NOTE not in metadata:
            raise OutputError("no 'segmentation' note in the file's metadata: it was not written by this pipeline")
        try:
            note = json.loads(metadata[_NOTE])
            note["classes"] = tuple(note["classes"])
            note["palette"] = tuple(tuple(colour) for colour in note["palette"])
            return cls(**note)
        except (ConfigError, LookupError, TypeError, ValueError) as error:
            raise OutputError(f"the 'segmentation' note in the file's metadata is damaged: {error}") from error


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The schema in the notation of the `datasets` library."""
    return {field.name: {"_type": "Image"} if field.name == "mask" else _feature(field.type) for field in schema}


def _feature(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return [_feature(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": "float32" if kind == pa.float32() else str(kind), "_type": "Value"}
