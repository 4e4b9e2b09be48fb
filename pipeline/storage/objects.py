"""Single objects: reading, opening, writing whole or not at all, deleting."""

import io
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from pipeline.errors import MissingError, StorageError
from pipeline.storage.access import explained, filesystem, reason, scheme
from pipeline.storage.client_errors import http_status, refuses_all
from pipeline.storage.outages import is_outage, with_retries
from pipeline.storage.uri import join, redact, scrubbed

_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"})

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}", re.DOTALL)
"""The name of a file that is being written."""


def read_bytes(uri: str) -> bytes:
    """Read the whole object. Raises MissingError where there is none, else StorageError."""
    fs, path = filesystem(uri)
    with explained(uri, "read"):
        return bytes(with_retries(lambda: fs.cat_file(path)))


def read_if_there(uri: str) -> bytes | None:
    """Read the whole object; None where there is none. Raises StorageError where the storage does not answer."""
    try:
        return read_bytes(uri)
    except MissingError:
        return None


def read_ranges(
    root: str, keys: Sequence[str], starts: Sequence[int | None], ends: Sequence[int | None]
) -> list[bytes | StorageError]:
    """Read many objects, or ranges of objects, below `root` at once; None, None is the whole object.

    Of an empty range nothing is asked: HTTP has none.

    Returns:
        for each one its bytes, or a StorageError where this one object is missing or refused.

    Raises:
        StorageError: the storage itself does not answer, or takes the credentials for none.
    """
    fs, path = filesystem(root)
    asked = [n for n, (start, end) in enumerate(zip(starts, ends, strict=True)) if end is None or (start or 0) < end]
    paths = [join(path, keys[n]) if keys[n] else path for n in asked]
    # else s3fs asks for each size first, and to that S3 does not say why it refuses
    options = {"max_concurrency": 1} if scheme(fs) == "s3" else {}

    def fetch() -> list[bytes | Exception]:
        items: list[bytes | Exception] = fs.cat_ranges(
            paths, [starts[n] for n in asked], [ends[n] for n in asked], on_error="return", **options
        )
        for item in items:
            if isinstance(item, Exception) and is_outage(item):
                raise item
        return items

    with explained(root, "read"):
        items = dict(zip(asked, with_retries(fetch), strict=True))
    return [_bytes_or_error(join(root, key), items.get(n, b"")) for n, key in enumerate(keys)]


class _Stream(io.RawIOBase):
    """The bytes at `uri` as `raw` reads them; a read that the storage does not answer is repeated, then explained."""

    def __init__(self, raw: Any, uri: str) -> None:
        super().__init__()
        self._raw, self._uri = raw, uri

    def read(self, size: int = -1) -> bytes:
        with explained(self._uri, "read"):
            return bytes(with_retries(lambda: self._raw.read(size)))

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._raw.seek(offset, whence))

    def tell(self) -> int:
        return int(self._raw.tell())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


@contextmanager
def opened(uri: str, read_ahead: int = 0) -> Iterator[io.RawIOBase]:
    """Open one object as a seekable stream of bytes, for Arrow and others that read a file from several places.

    Args:
        uri: of the object.
        read_ahead: bytes that are fetched beyond those asked for; 0 fetches exactly these.

    Raises:
        MissingError: the object is not there, or was replaced while the stream was read.
        StorageError: it is denied, or its storage does not answer. Any other error while the stream is read is about
            the bytes in the object.
    """
    fs, path = filesystem(uri)
    cache = {"block_size": read_ahead, "cache_type": "readahead"} if read_ahead else {"cache_type": "none"}
    with explained(uri, "read"):
        raw = with_retries(lambda: fs.open(path, "rb", **cache))
    with raw, _Stream(raw, uri) as stream:
        yield stream


def exists(uri: str) -> bool:
    """Tell whether an object or a folder is there. Raises StorageError when the storage does not answer."""
    fs, path = filesystem(uri)
    with explained(uri, "look for"):
        return with_retries(lambda: bool(fs.exists(path)))


def put_whole(uri: str, data: bytes, *, once: bool = False) -> None:
    """Write one object so that a reader sees all of it or nothing. Raises StorageError.

    Object stores commit on completion; elsewhere the bytes go to a hidden neighbour that is renamed into place. With
    `once` a storage that does not answer is not asked again: by then the write may no longer be right.
    """
    fs, path = filesystem(uri, once=once)
    with explained(uri, "write"):
        if scheme(fs) in _OBJECT_STORES:
            put = partial(fs.pipe_file, path, data)
            put() if once else with_retries(put)
            return
        folder, _, name = path.rpartition("/")
        fs.makedirs(folder, exist_ok=True)
        hidden = f"{folder}/.{name}.{uuid.uuid4().hex}"  # as _UNFINISHED
        try:
            fs.pipe_file(hidden, data)
            rename = os.replace if scheme(fs) == "file" else fs.mv  # fsspec's local mv copies when renaming fails
            rename(hidden, path)
        except BaseException:
            if fs.exists(hidden):
                fs.rm(hidden)
            raise


def remove_unfinished(folder: str) -> None:
    """Remove what processes that were killed in `put_whole` have left hidden in a folder. Raises StorageError."""
    fs, path = filesystem(folder)
    if scheme(fs) in _OBJECT_STORES:
        return
    with explained(folder, "clear"):
        names = with_retries(lambda: fs.ls(path, detail=False) if fs.isdir(path) else [])
        for name in names:
            if _UNFINISHED.fullmatch(name.rpartition("/")[-1]):
                with suppress(FileNotFoundError):
                    fs.rm_file(name)


def delete(uri: str) -> None:
    """Remove one object. Raises StorageError."""
    fs, path = filesystem(uri)
    with explained(uri, "delete"):
        with_retries(lambda: fs.rm_file(path))


def _bytes_or_error(uri: str, item: bytes | Exception) -> bytes | StorageError:
    """Return one object's bytes, or the error that is this object's own; raise any other error.

    Outages were raised before, so nearly all that a storage answers is about the object.
    """
    if not isinstance(item, Exception):
        return bytes(item)
    is_answer = isinstance(item, OSError) or http_status(item) is not None
    if is_answer and not refuses_all(item):
        return StorageError(f"cannot read {redact(uri)}: {scrubbed(reason(item), uri)}")
    with explained(uri, "read"):
        raise item
