"""The input formats, a file for each. To add one: a class like those below in a file of its own, and a line here."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pipeline.data.formats.format import BY_RULE, ColumnNames, Format
from pipeline.data.formats.images import Images
from pipeline.data.formats.parquet import Parquet
from pipeline.data.formats.uri_list import UriList
from pipeline.data.formats.webdataset import WebDataset
from pipeline.errors import ConfigError

FORMATS: dict[str, Format] = {
    Images.name: Images(),
    WebDataset.name: WebDataset(),
    Parquet.name: Parquet(),
    UriList.name: UriList(),
}
"""By name."""

if TYPE_CHECKING:
    InputFormat = str
else:
    InputFormat = Literal[("auto", *FORMATS)]


_OUTPUT_FILE = re.compile(r"(.*/)?\d{8}T\d{6}-[0-9a-f]{6}-\d{5,}\.parquet", re.DOTALL)


def formats_read(input_format: "InputFormat") -> dict[str, Format]:
    """Give the formats that are read, by name: the one of this name, or with auto all but lists."""
    if input_format == "auto":
        return {name: reader for name, reader in FORMATS.items() if not reader.is_list}
    return {input_format: FORMATS[input_format]}


def by_suffix(read: Mapping[str, Format]) -> dict[str, Format]:
    """Give the format of each suffix: of those that are `read`, or else of those that auto reads."""
    known = [*formats_read("auto").values(), *read.values()]
    return {suffix: reader for reader in known for suffix in reader.suffixes}


def format_of(key: str, suffixes: Mapping[str, Format] | None = None) -> Format | None:
    """Tell the format of a file from its name, by suffix; by default of those that auto reads.

    None for a file of no format, and for what this pipeline wrote.
    """
    dot = key.rfind(".")
    if dot < 1 or key[dot - 1] == "/":  # a hidden name has no suffix
        return None
    suffixes = by_suffix({}) if suffixes is None else suffixes
    reader = suffixes.get(key[dot:].lower())
    return None if reader is None or is_output_file(key) else reader


def is_output_file(key: str) -> bool:
    """Tell whether a file is called as a run calls its masks and errors: RUN_ID-NNNNN.parquet."""
    return key.endswith(".parquet") and _OUTPUT_FILE.fullmatch(key) is not None


def with_columns(readers: Sequence[Format], names: ColumnNames) -> list[Format]:
    """Give the formats, reading these columns. Raises ConfigError where some are chosen and no format has columns."""
    chosen = [reader.with_columns(names) for reader in readers]
    if names != BY_RULE and chosen == list(readers):
        raise ConfigError(
            "--image-column, --key-column and --mask-column choose among the columns of a table, and the input is "
            f"{' and '.join(reader.files for reader in readers)}; leave them out"
        )
    return chosen


__all__ = [
    "BY_RULE",
    "FORMATS",
    "ColumnNames",
    "Format",
    "InputFormat",
    "by_suffix",
    "format_of",
    "formats_read",
    "is_output_file",
    "with_columns",
]
