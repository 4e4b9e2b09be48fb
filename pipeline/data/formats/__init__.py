"""The input formats, a file for each. To add one: a class like those below in a file of its own, and a line here."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from pipeline.data.formats.format import BY_RULE, ColumnNames, Format
from pipeline.data.formats.images import Images
from pipeline.data.formats.parquet import Parquet
from pipeline.data.formats.webdataset import WebDataset
from pipeline.errors import ConfigError

FORMATS: dict[str, Format] = {
    Images.name: Images(),
    WebDataset.name: WebDataset(),
    Parquet.name: Parquet(),
}
"""By name."""

if TYPE_CHECKING:
    InputFormat = str
else:
    InputFormat = Literal[("auto", *FORMATS)]


_OUTPUT_FILE = re.compile(r"(.*/)?\d{8}T\d{6}-[0-9a-f]{6}-\d{5,}\.parquet", re.DOTALL)


def format_of(key: str) -> Format | None:
    """Tell the format of a file from its name; None for one of no format, and for what this pipeline wrote."""
    if is_output_file(key):
        return None
    suffix = PurePosixPath(key).suffix.lower()
    return next((reader for reader in FORMATS.values() if suffix in reader.suffixes), None)


def is_output_file(key: str) -> bool:
    """Tell whether a file is called as a run calls its masks and errors: RUN_ID-NNNNN.parquet."""
    return _OUTPUT_FILE.fullmatch(key) is not None


def with_columns(readers: Sequence[Format], names: ColumnNames) -> list[Format]:
    """Give the formats, reading these columns. Raises ConfigError where some are chosen and no format has columns."""
    chosen = [reader.with_columns(names) for reader in readers]
    if names != BY_RULE and chosen == list(readers):
        raise ConfigError(
            "--image-column, --key-column and --mask-column choose among the columns of a table, and the input is "
            f"{' and '.join(reader.files for reader in readers)}; leave them out"
        )
    return chosen


__all__ = ["BY_RULE", "FORMATS", "ColumnNames", "Format", "InputFormat", "format_of", "is_output_file", "with_columns"]
