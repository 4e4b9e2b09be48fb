"""The masks a run writes: schemas and their versions, palette PNGs, reading them back, recounting them."""

from pipeline.masks.png import decode, encode, pascal_palette
from pipeline.masks.reading import CommittedFile, committed_files, generations, read, read_columns, read_with_sources
from pipeline.masks.schema import (
    ERRORS_FOLDER,
    ERRORS_SCHEMA,
    FOLDERS,
    INDEX_FOLDER,
    MASKS_FOLDER,
    MASKS_SCHEMA,
    RUNS_FOLDER,
    SCHEMA_VERSION,
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
    "RUNS_FOLDER",
    "SCHEMA_VERSION",
    "CommittedFile",
    "DatasetInfo",
    "Problem",
    "Verification",
    "committed_files",
    "decode",
    "encode",
    "generations",
    "pascal_palette",
    "quarantine",
    "read",
    "read_columns",
    "read_with_sources",
    "verify",
]
