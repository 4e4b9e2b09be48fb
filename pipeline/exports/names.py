"""Names of files for keys, which may hold anything: below one folder, on every filesystem, each its own."""

import hashlib
from pathlib import PurePosixPath

from pipeline.images import EXTENSIONS

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
        name = safe(stem)
        if self._is_given(name):
            name = safe(key)
            if self._is_given(name):
                name = f"{name}.{_digest(key)}"
        return name

    def _is_given(self, name: str) -> bool:
        """Note a name; returns whether it was noted before. File systems may not tell capital letters from small."""
        number = int(_digest(name.lower()), 16)
        before = len(self._given)
        self._given.add(number)
        return len(self._given) == before


def safe(key: str) -> str:
    """Write a key as a relative path of parts that every filesystem takes; two keys give two paths.

    No folder has a name that a file may have.
    """
    *folders, name = map(_safe_part, key.split("/"))
    stems = ((folder, PurePosixPath(folder)) for folder in folders)
    unlike = [f"{path.stem}%2E{path.suffix[1:]}" if path.suffix.lower() in EXTENSIONS else part for part, path in stems]
    return "/".join([*unlike, name])


def _safe_part(part: str) -> str:
    escaped = "".join("".join(f"%{byte:02X}" for byte in sign.encode()) if sign in _UNSAFE else sign for sign in part)
    if escaped.startswith(("#", " ")):  # readers of VOC's lists take the one for a comment, and strip the other
        escaped = f"%{ord(escaped[0]):02X}{escaped[1:]}"
    if not escaped.strip(". "):
        escaped = "".join(f"%{ord(sign):02X}" for sign in escaped) or "%"
    elif escaped[-1] in ". ":
        escaped = f"{escaped[:-1]}%{ord(escaped[-1]):02X}"
    if len(escaped.encode()) > _MOST_BYTES:
        start = escaped.encode()[: _MOST_BYTES - 20].decode(errors="ignore")
        escaped = f"{start}~{_digest(part)}"
    return escaped


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
