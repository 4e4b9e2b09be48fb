"""The masks a run writes: table schemas, palette PNGs, the note in every file, reading them back, recounting them."""

from pipeline.masks.png import decode, encode, pascal_palette
from pipeline.masks.reading import CommittedFile, committed_files, generations, read, read_columns
from pipeline.masks.schema import (
    ERRORS_FOLDER,
    ERRORS_SCHEMA,
    FOLDERS,
    INDEX_FOLDER,
    MASKS_FOLDER,
    MASKS_SCHEMA,
    RUNS_FOLDER,
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
    "verify",
]
