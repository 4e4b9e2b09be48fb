"""Listing the files below a prefix, streamed: object listings are held a page at a time."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import fsspec

from pipeline.storage.access import explained, filesystem, scheme
from pipeline.storage.globs import file_matcher, folder_matcher, literal_start, split_glob
from pipeline.storage.objects import exists
from pipeline.storage.outages import with_retries
from pipeline.storage.uri import base_name, below, parent, without_last_slash

_VERSION_FIELDS = (
    *("etag", "ETag", "md5Hash", "mtime", "updated", "last_modified", "LastModified", "created"),
    *("generation", "content_md5", "Content-MD5", "Digest", "md5", "sha256", "sha", "checksum", "crc32c", "blob_id"),
    *("Last-Modified", "modified", "modify", "modificationTime", "last_write_time"),
)
"""What filesystems call a digest, a generation or a time of an object, in the order in which they are believed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed object: `key` is its path below the listed prefix, `size` in bytes, `version` changes when it does."""

    uri: str
    key: str
    size: int
    version: str

    @property
    def root(self) -> str:
        """Give the URI that `key` is below."""
        return parent(self.uri, self.key)


def list_files(uri: str) -> Iterator[Entry]:
    """Stream the files at `uri`: a folder or prefix (searched through), a glob, or one file. Hidden names are left out.

    Object listings are held a page at a time, so a bucket of millions of keys needs no more memory than a small one.
    What is called exactly like `uri` goes before what a glob matches. A prefix with nothing below it yields nothing.

    Raises:
        StorageError: a local path that is not there; a storage that does not answer or may not be read.
        ConfigError: a glob that cannot be searched for.
    """
    if literal_start(uri) != uri and exists(uri):
        yield from list_folder(uri)
    else:
        yield from _matching(uri, *split_glob(uri))


def list_folder(uri: str) -> Iterator[Entry]:
    """Stream the files at `uri` as list_files does, taking `*`, `?` and `[` in it as letters of the name."""
    yield from _matching(uri, without_last_slash(uri), "")


def _matching(uri: str, root: str, pattern: str) -> Iterator[Entry]:
    fs, path = filesystem(root)
    matches = file_matcher(pattern)
    with explained(uri, "list"):
        for file, size, version in walk(fs, path, pattern):
            key = file[len(path) :].removeprefix("/") or base_name(file)
            hidden = any(part.startswith(".") for part in key.split("/"))
            if not hidden and matches(key):
                yield Entry(uri=below(root, path, file), key=key, size=size, version=version)


def is_listed(uri: str, version: str) -> bool:
    """Tell whether the object at `uri` is there and still has the `version` it was listed with. Raises StorageError.

    Where the listing told neither size nor version, an object that is there counts as unchanged.
    """
    fs, path = filesystem(uri)
    with explained(uri, "read"):
        try:
            if scheme(fs) == "file":
                return _local_version(os.stat(path)) == version
            info = with_retries(lambda: fs.info(path))
        except FileNotFoundError:
            return False
        if scheme(fs) == "s3":
            return _etag(info) == version
        return version in (*_versions(info), "None")


def walk(fs: fsspec.AbstractFileSystem, path: str, pattern: str = "") -> Iterator[tuple[str, int, str]]:
    """Yield (path, size, version) of each file below `path`, or of `path` itself when it is a file.

    The caller needs only the files that match `pattern`: S3 leaves out what begins otherwise, and local folders that
    cannot hold a match are not entered.
    """
    if scheme(fs) == "file":
        yield from _walk_local(path, pattern)
    elif scheme(fs) == "s3":
        yield from _walk_s3(fs, path, literal_start(pattern))
    else:
        info = fs.info(path)
        if info["type"] == "file":
            yield path, int(info["size"] or 0), _version(info)
            return
        for _, _, files in fs.walk(path, detail=True, on_error="raise"):
            for info in files.values():
                yield info["name"], int(info["size"] or 0), _version(info)


def _walk_local(path: str, pattern: str) -> Iterator[tuple[str, int, str]]:
    status = os.stat(path)
    if not os.path.isdir(path):
        yield path, status.st_size, _local_version(status)
        return
    enters = folder_matcher(pattern)
    folders = [path]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if enters(entry.path[len(path) :].removeprefix("/")):
                        folders.append(entry.path)
                elif entry.is_file():
                    status = entry.stat()
                    yield entry.path, status.st_size, _local_version(status)


def _local_version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _walk_s3(fs: fsspec.AbstractFileSystem, path: str, start: str) -> Iterator[tuple[str, int, str]]:
    """Yield the keys below `path`, or `path` itself. s3fs's own find() would build the whole listing in memory."""
    bucket, _, key = path.partition("/")
    items = _s3_items(fs, bucket, (f"{key}/" if key else "") + start)
    first = next(items, None)
    if first is None and key:
        items = (item for item in islice(_s3_items(fs, bucket, key), 1) if item["Key"] == key)
        first = next(items, None)
    for item in chain([first] if first else [], items):
        if not item["Key"].endswith("/"):
            yield f"{bucket}/{item['Key']}", int(item["Size"]), _etag(item)


def _etag(info: dict[str, Any]) -> str:
    return str(info["ETag"]).strip('"')


def _s3_items(fs: fsspec.AbstractFileSystem, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield ListObjectsV2's items for the keys that begin with `prefix`, in order, a page at a time."""
    page: dict[str, Any] = {"NextContinuationToken": None}
    while "NextContinuationToken" in page:
        token = page["NextContinuationToken"]
        more = {"ContinuationToken": token} if token else {}
        page = with_retries(partial(fs.call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more))
        yield from page.get("Contents", ())


def _version(info: dict[str, Any]) -> str:
    """Return a text that changes when the object does, as far as this filesystem tells."""
    return _versions(info)[0]


def _versions(info: dict[str, Any]) -> list[str]:
    """Return all texts that change when the object does; the last is its size alone, the least that is told."""
    fields = [f"{info['size']}-{info[field]}".replace('"', "") for field in _VERSION_FIELDS if info.get(field)]
    return [*fields, str(info["size"])]
