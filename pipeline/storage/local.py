"""Walking a local folder: links, names that other tools hide, what may not be read and what vanishes meanwhile."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from enum import StrEnum

from pipeline.storage.globs import folder_matcher

_Identity = tuple[int, int]
"""Device and inode of a folder, the same under each of its names."""


class Skipped(StrEnum):
    """Why something below a listed prefix is left out; in the plural."""

    HIDDEN = "hidden names"
    BROKEN_LINK = "broken links"
    LOOPING_LINK = "looping links"
    FORBIDDEN = "unreadable names"
    SPECIAL = "special files"


IsHidden = Callable[[str, bool], bool]
"""Tells of a name, of a file where the second is True and else of a folder, whether it is left out."""

OnSkip = Callable[[Skipped, str], None]
"""Is told why something is left out, and its path; of a folder, once for all that is in it."""


def walk_local(path: str, pattern: str, is_hidden: IsHidden, on_skip: OnSkip) -> Iterator[tuple[str, int, str]]:
    """Yield (path, size, version) of each file below `path`, or of `path` itself, through links too.

    Folders that cannot hold a match of `pattern` are not entered, nor are hidden ones. A name that is hidden of a file
    is hidden of a folder too.
    """
    status = os.stat(path)
    if is_special(status):
        on_skip(Skipped.SPECIAL, path)
        return
    if not stat.S_ISDIR(status.st_mode):
        yield path, status.st_size, local_version(status)
        return
    os.scandir(path).close()  # the input itself has to be there, and to be readable
    enters = folder_matcher(pattern)
    folders: list[tuple[str, tuple[_Identity, ...]]] = [(path, (_identity(status),))]
    while folders:
        folder, above = folders.pop()
        for entry in _scanned(folder, on_skip):
            if is_hidden(entry.name, True):
                on_skip(Skipped.HIDDEN, entry.path)
                continue
            there = _status(entry, on_skip)
            if there is None:
                continue
            if stat.S_ISREG(there.st_mode):
                yield entry.path, there.st_size, local_version(there)
            elif is_special(there):
                on_skip(Skipped.SPECIAL, entry.path)
            elif is_hidden(entry.name, False):
                on_skip(Skipped.HIDDEN, entry.path)
            elif not enters(entry.path[len(path) :].removeprefix("/")):
                continue
            elif _identity(there) in above:
                on_skip(Skipped.LOOPING_LINK, entry.path)
            else:
                folders.append((entry.path, (*above, _identity(there))))


def _scanned(folder: str, on_skip: OnSkip) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a folder; nothing where it has vanished."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:
        on_skip(Skipped.FORBIDDEN, folder)


def _status(entry: os.DirEntry[str], on_skip: OnSkip) -> os.stat_result | None:
    """Return what `entry` is, or what the link leads to; None where there is nothing, or it may not be seen."""
    try:
        return entry.stat()
    except (FileNotFoundError, NotADirectoryError):
        if entry.is_symlink():
            on_skip(Skipped.BROKEN_LINK, entry.path)
    except PermissionError:
        on_skip(Skipped.FORBIDDEN, entry.path)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        on_skip(Skipped.BROKEN_LINK, entry.path)
    return None


def is_special(status: os.stat_result) -> bool:
    """Tell a pipe, a device or a socket, which may keep who opens it waiting for ever, from files and folders."""
    return not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def local_version(status: os.stat_result) -> str:
    """Return a text that changes when the file does."""
    return f"{status.st_size}-{status.st_mtime_ns}"
