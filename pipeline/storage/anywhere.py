"""Objects of several storages at once, each read up to a limit."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress

import fsspec

from pipeline.errors import StorageError
from pipeline.storage.access import explained, filesystem, scheme
from pipeline.storage.client_errors import http_status, refuses_all
from pipeline.storage.local import is_special
from pipeline.storage.outages import is_outage, with_retries
from pipeline.storage.uri import WEB_SCHEMES, redact, scheme_of

_WEB_PAUSES = (0.5, 2.0)  # seconds before a web server is asked again


def read_anywhere(uris: Sequence[str], most: int) -> list[bytes | StorageError]:
    """Read the first `most` bytes of each object, wherever it is.

    Returns:
        for each one its bytes, or a StorageError where this one cannot be read. That is also what comes of a web server
        that does not answer: it is one of many, and not the storage of the run.

    Raises:
        StorageError: an object store does not answer, takes the credentials for none, or there are none for it.
    """
    read: dict[str, bytes | StorageError] = {}
    groups: dict[int, tuple[fsspec.AbstractFileSystem, dict[str, str]]] = {}
    for uri in uris:
        try:
            fs, path = filesystem(uri)
            _check_not_special(fs, path, uri)
            groups.setdefault(id(fs), (fs, {}))[1][uri] = path
        except StorageError as error:
            if refuses_all(error.__cause__):
                raise
            read[uri] = error
    for fs, paths in groups.values():
        on_web = scheme_of(next(iter(paths))) in WEB_SCHEMES
        read |= _read_web(fs, paths, most) if on_web else _read_store(fs, paths, most)
    return [read[uri] for uri in uris]


def store_fails(uri: str, error: StorageError) -> bool:
    """Tell whether `error` is of the whole object store of `uri`, as read_anywhere raises it, and not of this one."""
    return scheme_of(uri) not in WEB_SCHEMES and (is_outage(error) or refuses_all(error.__cause__))


def _check_not_special(fs: fsspec.AbstractFileSystem, path: str, uri: str) -> None:
    """Raise StorageError for a local pipe or device. What is not there, or may not be seen, is for reading to tell."""
    with suppress(OSError, ValueError):
        if scheme(fs) == "file" and is_special(os.stat(path)):
            raise StorageError(f"cannot read {redact(uri)}: it is a pipe, a device or a socket; name a file")


def _read_store(fs: fsspec.AbstractFileSystem, paths: dict[str, str], most: int) -> dict[str, bytes | StorageError]:
    def read() -> dict[str, bytes | Exception]:
        items = _read_once(fs, paths, most)
        for uri, item in items.items():
            if isinstance(item, Exception) and (is_outage(item) or refuses_all(item)):
                with explained(uri, "read"):
                    raise item
        return items

    return {uri: _explained(uri, item) for uri, item in with_retries(read).items()}


def _read_web(fs: fsspec.AbstractFileSystem, paths: dict[str, str], most: int) -> dict[str, bytes | StorageError]:
    items = _read_once(fs, paths, most)
    for pause in _WEB_PAUSES:
        silent = {uri: paths[uri] for uri, item in items.items() if isinstance(item, Exception) and is_outage(item)}
        if not silent:
            break
        time.sleep(pause)
        items |= _read_once(fs, silent, most)
    return {uri: _explained(uri, item) for uri, item in items.items()}


def _read_once(fs: fsspec.AbstractFileSystem, paths: dict[str, str], most: int) -> dict[str, bytes | Exception]:
    count = len(paths)
    items = fs.cat_ranges(list(paths.values()), [0] * count, [most] * count, on_error="return")
    return dict(zip(paths, items, strict=True))


def _explained(uri: str, item: bytes | Exception) -> bytes | StorageError:
    """Give the bytes, or the error as one that says what to do."""
    if not isinstance(item, Exception):
        return bytes(item)
    if 416 in (http_status(item), http_status(item.__cause__)):  # an object of no bytes has no first ones
        return b""
    try:
        with explained(uri, "read"):
            raise item
    except StorageError as error:
        return error
