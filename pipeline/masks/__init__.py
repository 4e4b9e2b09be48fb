"""The masks a run writes: schemas and their versions, palette PNGs, reading them back, recounting them."""

from pipeline.masks.overlay import Overlay
from pipeline.masks.png import decode, decode_confidence, encode, encode_confidence, pascal_palette
from pipeline.masks.reading import (
    CommittedFile,
    committed_files,
    generation_files,
    generations,
    key_range,
    read,
    read_columns,
    read_confidence,
    read_with_sources,
)
from pipeline.masks.rows import FailedRow, MaskRows, Place, newest_rows, read_pngs
from pipeline.masks.schema import (
    ERRORS_FOLDER,
    ERRORS_SCHEMA,
    FOLDERS,
    INDEX_FOLDER,
    MASKS_FOLDER,
    MASKS_SCHEMA,
    PARTS_FOLDER,
    RUNS_FOLDER,
    SCHEMA_VERSION,
    STAGED_FOLDER,
    DatasetInfo,
)
from pipeline.masks.verification import Problem, Verification, quarantine, verify

__all__ = [
    "ERRORS_FOLDER",
    "ERRORS_SCHEMA",
    "FOLDERS",
    "INDEX_FOLDER",
    "MASKS_FOLDER",
    "MASKS_SCHEMA",
    "PARTS_FOLDER",
    "RUNS_FOLDER",
    "SCHEMA_VERSION",
    "STAGED_FOLDER",
    "CommittedFile",
    "DatasetInfo",
    "FailedRow",
    "MaskRows",
    "Overlay",
    "Place",
    "Problem",
    "Verification",
    "committed_files",
    "decode",
    "decode_confidence",
    "encode",
    "encode_confidence",
    "generation_files",
    "generations",
    "key_range",
    "newest_rows",
    "pascal_palette",
    "quarantine",
    "read",
    "read_columns",
    "read_confidence",
    "read_pngs",
    "read_with_sources",
    "verify",
]
