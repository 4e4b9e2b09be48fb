"""Names of files for keys, which may hold anything: below one folder, on every filesystem, each its own."""

import hashlib
import unicodedata
from pathlib import PurePosixPath

from pipeline.images import EXTENSIONS

_SUFFIXES = EXTENSIONS | {".geojson"}
"""Of the files that formats write."""

_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "123456789¹²³")})
"""Names that Windows keeps for devices, whatever follows behind a dot."""

_UNSAFE = frozenset('%\\:*?"<>|') | frozenset(map(chr, (*range(32), 127)))
_MOST_BYTES = 180
"""Of a part of a path; filesystems allow 255, with a suffix and the hidden name that a file is written under first."""


class FileNames:
    """Give each key of an export a path of its own, without the suffix of its picture where it has one.

    Memory: a number for each key.
    """

    def __init__(self) -> None:
        """Begin with no name given."""
        self._given: set[int] = set()

    def of(self, key: str) -> str:
        """Name the next key; where another key had the name without the suffix, with the suffix."""
        path = PurePosixPath(key)
        stem = key[: -len(path.suffix)] if path.suffix.lower() in EXTENSIONS else key
        for name in (safe(stem), safe(key)):
            if not self._is_given(name):
                return name
        while self._is_given(name):
            name = f"{name}.{_digest(key)}"
        return name

    def _is_given(self, name: str) -> bool:
        """Note a name; returns whether it was noted before.

        File systems may not tell capital letters from small, nor an accented letter from a letter and its accent.
        """
        folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
        number = int(_digest(folded), 16)
        before = len(self._given)
        self._given.add(number)
        return len(self._given) == before


def safe(key: str) -> str:
    """Write a key as a relative path of parts that every filesystem takes; two keys give two paths.

    No folder has a name that a file may have.
    """
    *folders, name = map(_safe_part, key.split("/"))
    stems = ((folder, PurePosixPath(folder)) for folder in folders)
    unlike = [f"{path.stem}%2E{path.suffix[1:]}" if path.suffix.lower() in _SUFFIXES else part for part, path in stems]
    return "/".join([*unlike, name])


def _safe_part(part: str) -> str:
    escaped = "".join(_escaped(sign) if sign in _UNSAFE else sign for sign in part)
    if not escaped.strip(". "):
        escaped = "".join(map(_escaped, escaped)) or "%"
    is_device = escaped.partition(".")[0].rstrip().lower() in _DEVICES
    if is_device or escaped[0] == "#" or escaped[0].isspace():  # readers of VOC's lists skip # and strip blanks
        escaped = f"{_escaped(escaped[0])}{escaped[1:]}"
    if escaped[-1] == "." or escaped[-1].isspace():
        escaped = f"{escaped[:-1]}{_escaped(escaped[-1])}"
    if len(escaped.encode()) > _MOST_BYTES:
        start = escaped.encode()[: _MOST_BYTES - 20].decode(errors="ignore")
        escaped = f"{start}~{_digest(part)}"
    return escaped


def _escaped(sign: str) -> str:
    return "".join(f"%{byte:02X}" for byte in sign.encode())


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
