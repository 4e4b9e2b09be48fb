"""Text files that people write: lists of pictures, configurations, prices."""

import codecs

from pipeline.errors import ConfigError

_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""By what a file begins with; UTF-16 is what some programs on Windows call Unicode."""


def decode(data: bytes, name: str) -> str:
    """Decode UTF-8, or UTF-16 that begins with its byte order mark; without the mark.

    Args:
        data: the whole file.
        name: of the file, for messages.

    Raises:
        ConfigError: another encoding, such as Latin-1, which cannot be told from the bytes.
    """
    encoding = next((name for mark, name in _ENCODINGS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name} is not text in UTF-8: see line {line}; save it as UTF-8") from error
    if "\0" in text:
        raise ConfigError(f"{name} is not text in UTF-8: it has null characters; save it as UTF-8")
    return text
