"""Files of many images, opened as they were listed: damage of a file is told apart from a failing storage."""

import io
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter

import pyarrow as pa

from pipeline import storage
from pipeline.data.rows import Row
from pipeline.errors import MissingError, ShardError, StorageError


@contextmanager
def opened(uri: str, version: str, kind: str, read_ahead: int = 0) -> Iterator[io.RawIOBase]:
    """Open a shard as a seekable stream of its bytes, as `storage.opened` does.

    Raises, also for whatever the reader of the stream runs into:
        ShardError: the file is no readable `kind`, is gone or refused, or is not the one that was listed.
        StorageError: the storage does not answer, or refuses to.
    """
    with damage_as_shard_error(uri, kind), storage.opened(uri, read_ahead) as stream:
        check_unchanged(uri, version)
        yield stream


def check_unchanged(uri: str, version: str) -> None:
    """Raise ShardError where the shard is gone, or is not the one that was listed; StorageError as `opened` does."""
    if not storage.is_listed(uri, version):
        raise ShardError(_changed(uri))


@contextmanager
def damage_as_shard_error(uri: str, kind: str) -> Iterator[None]:
    """Raise ShardError for what a damaged, replaced or refused file provokes; let the failures of its storage pass."""
    try:
        yield
    except MissingError as error:
        raise ShardError(_changed(uri)) from error
    except StorageError as error:
        if storage.concerns_one_object(error):
            raise ShardError(str(error)) from error
        raise
    except (pa.ArrowException, tarfile.TarError, EOFError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ShardError(f"{storage.redact(uri)} is not a readable {kind}: {reason}") from error


def by_file(rows: Iterable[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Group neighbouring rows of MANIFEST by the file that they are in: its path, its version, and the rows."""
    for (path, version), group in groupby(rows, key=itemgetter("path", "version")):
        yield path, version, list(group)


def _changed(uri: str) -> str:
    return f"{storage.redact(uri)} is gone or has changed since it was listed; run again to list anew"
