"""Listing the files below a prefix, streamed: object listings are held some pages at a time."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import fsspec

from pipeline.storage.access import bucket_and_key, explained, filesystem, scheme
from pipeline.storage.globs import file_matcher, literal_start, split_glob
from pipeline.storage.local import IsHidden, OnSkip, Skipped, local_version, walk_local
from pipeline.storage.objects import exists
from pipeline.storage.outages import with_retries
from pipeline.storage.s3_listing import PAGERS, list_objects
from pipeline.storage.s3_pages import Listed, Pages
from pipeline.storage.uri import base_name, below, parent, split_query, without_last_slash

_VERSION_FIELDS = (
    *("etag", "ETag", "md5Hash", "mtime", "updated", "last_modified", "LastModified", "created"),
    *("generation", "content_md5", "Content-MD5", "Digest", "md5", "sha256", "sha", "checksum", "crc32c", "blob_id"),
    *("Last-Modified", "modified", "modify", "modificationTime", "last_write_time"),
)
"""What filesystems call a digest, a generation or a time of an object, in the order in which they are believed."""

_HIDDEN = ("_", ".")
_DIRECTORY_BUCKET = "--x-s3"
"""How the names of S3's directory buckets end, which list no names behind a given one (Amazon S3 user guide)."""

Keeps = Callable[[str], bool]


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


def list_files(uri: str, on_skip: OnSkip | None = None, keeps: Keeps | None = None) -> Iterator[Entry]:
    """Stream the files at `uri`: a folder or prefix (searched through), a glob, or one file.

    Names that begin with `_` or `.` are left out, with what is below them: other tools keep there what is not data, or
    not yet. One that is part of `uri` itself is read, as is one that a glob spells out. Links are followed.

    Object listings are held some pages at a time, so a bucket of millions of keys needs hardly more memory than a small
    one. S3 is asked for many pages at once.
    What is called exactly like `uri` goes before what a glob matches, and a file before what lies below its name, as a
    bucket can hold it. A prefix with nothing below it yields nothing.

    Args:
        uri: to list.
        on_skip: is told of what is left out, by its URI. A file that vanishes while it is listed is none.
        keeps: tells of the name of a file that would be left out whether it is not.

    Raises:
        StorageError: a local path that is not there; a storage that does not answer or may not be read.
        ConfigError: a glob that cannot be searched for.
    """
    if literal_start(uri) != uri and exists(uri):
        yield from list_folder(uri, on_skip, keeps)
    else:
        yield from _matching(uri, *split_glob(uri), on_skip, keeps)


def list_folder(uri: str, on_skip: OnSkip | None = None, keeps: Keeps | None = None) -> Iterator[Entry]:
    """Stream the files at `uri` as list_files does, taking `*`, `?` and `[` in it as letters of the name."""
    yield from _matching(uri, without_last_slash(uri), "", on_skip, keeps)


def _matching(uri: str, root: str, pattern: str, on_skip: OnSkip | None, keeps: Keeps | None) -> Iterator[Entry]:
    fs, path = filesystem(root)
    matches = file_matcher(pattern)
    signs = tuple(sign for sign in _HIDDEN if not any(part.startswith(sign) for part in pattern.split("/")))

    def is_hidden(name: str, is_file: bool) -> bool:
        return name.startswith(signs) and not (is_file and keeps is not None and keeps(name))

    def skip(why: Skipped, file: str) -> None:
        if on_skip:
            on_skip(why, below(root, path, file))

    with explained(uri, "list"):
        for file, size, version in walk(fs, path, pattern, is_hidden, skip):
            key = file[len(path) :].removeprefix("/") or _own_key(fs, file)
            if not pattern or matches(key):
                yield Entry(uri=below(root, path, file), key=key, size=size, version=version)


def _own_key(fs: fsspec.AbstractFileSystem, file: str) -> str:
    """Give the key of a file that is listed alone: its name, on an object store with the empty folders before it."""
    name = base_name(file)
    if scheme(fs) == "file":
        return name
    location = split_query(file)[0]
    return location[len(location[: len(location) - len(name)].rstrip("/")) + 1 :]


def is_listed(uri: str, version: str) -> bool:
    """Tell whether the object at `uri` is there and still has the `version` it was listed with. Raises StorageError.

    Where the listing told neither size nor version, an object that is there counts as unchanged.
    """
    fs, path = filesystem(uri)
    with explained(uri, "read"):
        try:
            if scheme(fs) == "file":
                return local_version(os.stat(path)) == version
            info = with_retries(lambda: fs.info(path))
        except FileNotFoundError:
            return False
        if info["type"] == "directory":
            return False
        if scheme(fs) == "s3":
            return _etag(info) == version
        return version in (*_versions(info), "None")


def walk(
    fs: fsspec.AbstractFileSystem,
    path: str,
    pattern: str = "",
    is_hidden: IsHidden | None = None,
    on_skip: OnSkip | None = None,
) -> Iterator[tuple[str, int, str]]:
    """Yield (path, size, version) of each file below `path`, or of `path` itself when it is a file.

    The caller needs only the files that match `pattern`: S3 leaves out what begins otherwise, and local folders that
    cannot hold a match are not entered. Hidden names below `path` are left out, with what is below them; `on_skip` is
    told of those.
    """
    is_hidden, on_skip = is_hidden or _not_hidden, on_skip or _not_told
    if scheme(fs) == "file":
        yield from walk_local(path, pattern, is_hidden, on_skip)
    elif scheme(fs) == "s3":
        yield from _unhidden(_walk_s3(fs, path, pattern), path, is_hidden, on_skip)
    else:
        yield from _unhidden(_walk_any(fs, path), path, is_hidden, on_skip)


def _not_hidden(name: str, is_file: bool) -> bool:  # noqa: ARG001
    """Hide nothing."""
    return False


def _not_told(why: Skipped, path: str) -> None:
    """Tell nobody."""


def _unhidden(
    files: Iterator[tuple[str, int, str]], path: str, is_hidden: IsHidden, on_skip: OnSkip
) -> Iterator[tuple[str, int, str]]:
    """Leave out the files with a hidden name on their way below `path`; the files of a folder follow each other."""
    last = ""
    for file in files:
        rest = file[0][len(path) :]
        if "/_" not in rest and "/." not in rest and not rest.startswith(_HIDDEN):  # nearly all, and this is quick
            yield file
            continue
        parts = rest.split("/")
        n = next((n for n, part in enumerate(parts) if is_hidden(part, n == len(parts) - 1)), None)
        if n is None:
            yield file
            continue
        name = path + "/".join(parts[: n + 1])
        if name != last:
            on_skip(Skipped.HIDDEN, name)
        last = name


def _walk_any(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[tuple[str, int, str]]:
    """Walk by `ls`: fsspec's own walk leaves out in silence what it cannot list. A folder may vanish meanwhile."""
    info = fs.info(path)
    if info["type"] == "file":
        yield path, int(info["size"] or 0), _version(info)
        return
    folders = [path]
    while folders:
        folder = folders.pop()
        try:
            entries = with_retries(partial(fs.ls, folder, detail=True))
        except FileNotFoundError:
            if folder == path:
                raise
            continue
        for info in entries:
            name = info["name"].rstrip("/")
            if info["type"] != "directory":
                yield info["name"], int(info["size"] or 0), _version(info)
            elif name != folder:
                folders.append(name)


def _walk_s3(fs: fsspec.AbstractFileSystem, path: str, pattern: str) -> Iterator[tuple[str, int, str]]:
    """Yield `path` itself, or the keys below it. s3fs's own find() would build the whole listing in memory."""
    bucket, key = bucket_and_key(fs, path)
    if not pattern and "." in base_name(key) and (named := _object(fs, bucket, key)):
        yield f"{bucket}/{key}", named.size, named.etag
        return
    pages = Pages(fs, bucket, PAGERS)
    prefix = (f"{key}/" if key else "") + literal_start(pattern)
    by_pages = pages.in_turn(prefix) if bucket.endswith(_DIRECTORY_BUCKET) else list_objects(pages, prefix)
    listed: Iterator[Listed] = chain.from_iterable(by_pages)
    first = next(listed, None)
    if first is None and key:
        listed = iter([item for item in pages(key, "").objects[:1] if item.key == key])
        first = next(listed, None)
    for item in chain([first] if first else [], listed):
        if not item.key.endswith("/"):
            yield f"{bucket}/{item.key}", item.size, item.etag


def _object(fs: fsspec.AbstractFileSystem, bucket: str, key: str) -> Listed | None:
    """Find the object called exactly `key`; None where there is none, or an empty one, as marks a folder.

    S3 may refuse to tell of one, also where it lists what is below that name; then there is none either.
    """
    try:
        head = with_retries(partial(fs.call_s3, "head_object", Bucket=bucket, Key=key))
    except (FileNotFoundError, PermissionError):
        return None
    return Listed(key, head["ContentLength"], _etag(head)) if head["ContentLength"] else None


def _etag(info: dict[str, Any]) -> str:
    return str(info["ETag"]).strip('"')


def _version(info: dict[str, Any]) -> str:
    """Return a text that changes when the object does, as far as this filesystem tells."""
    return _versions(info)[0]


def _versions(info: dict[str, Any]) -> list[str]:
    """Return all texts that change when the object does; the last is its size alone, the least that is told."""
    fields = [f"{info['size']}-{info[field]}".replace('"', "") for field in _VERSION_FIELDS if info.get(field)]
    return [*fields, str(info["size"])]
