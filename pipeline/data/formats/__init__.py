"""The input formats, a file for each. To add one: a class like those below in a file of its own, and a line here."""

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from pipeline.data.formats.format import BY_RULE, ColumnNames, Format
from pipeline.data.formats.images import Images
from pipeline.data.formats.parquet import Parquet
from pipeline.data.formats.webdataset import WebDataset

FORMATS: dict[str, Format] = {
    Images.name: Images(),
    WebDataset.name: WebDataset(),
    Parquet.name: Parquet(),
}
"""By name. Where an input holds as many files of one as of another, the first counts."""

if TYPE_CHECKING:
    InputFormat = str
else:
    InputFormat = Literal[("auto", *FORMATS)]


def format_of(key: str) -> Format | None:
    """Tell the format of a file from its name."""
    suffix = PurePosixPath(key).suffix.lower()
    return next((reader for reader in FORMATS.values() if suffix in reader.suffixes), None)


__all__ = ["BY_RULE", "FORMATS", "ColumnNames", "Format", "InputFormat", "format_of"]
