"""A tar or Parquet file of images, opened as it was listed: what is wrong with it is told apart from its storage."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from s3fs.utils import FileExpired

from pipeline import storage
from pipeline.errors import ShardError


@contextmanager
def opened(uri: str, version: str, kind: str, **buffering: Any) -> Iterator[Any]:
    """The bytes of a shard as a seekable stream; `buffering` is what fsspec's open takes.

    Raises, also for whatever the reader of the stream runs into:
        ShardError: the file is no readable `kind`, is gone, or is not the one that was listed.
        StorageError: the storage does not answer, or refuses to.
    """
    fs, path = storage.filesystem(uri)
    with (
        storage.explained(uri, "read"),
        damage_told(uri, kind),
        fs.open(path, "rb", **buffering) as stream,
    ):
        check_unchanged(uri, version)
        yield stream


def check_unchanged(uri: str, version: str) -> None:
    """Raise ShardError where the shard is gone, or is not the one that was listed; StorageError as `opened` does."""
    if not storage.is_listed(uri, version):
        raise ShardError(_another(uri))


@contextmanager
def damage_told(uri: str, kind: str) -> Iterator[None]:
    """Raise ShardError for what a damaged or replaced file provokes; let the failures of its storage pass.

    Arrow reports most damage by a plain OSError. It has no errno, as those of a filesystem do.
    """
    try:
        yield
    except (FileNotFoundError, FileExpired) as error:
        raise ShardError(_another(uri)) from error
    except (pa.ArrowException, tarfile.TarError, EOFError, UnicodeError, OSError) as error:
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise
        said = " ".join(str(error).split())
        raise ShardError(f"{storage.redact(uri)} is not a readable {kind}: {said}") from error


def _another(uri: str) -> str:
    return f"{storage.redact(uri)} is gone or has changed since it was listed; run again to list anew"
