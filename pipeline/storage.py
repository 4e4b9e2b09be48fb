"""One URI, one filesystem: list, read, probe, and put whole or not at all.

A URI is a local path or anything fsspec opens (`s3://`, and `gs://`, `abfs://`, `memory://` ... where the extra is
installed). S3 takes its endpoint, region and keys from the standard AWS_* variables or profile; a self-hosted endpoint
is addressed path-style.
"""

import errno
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import botocore.exceptions
import fsspec
import pyarrow.fs
from fsspec.utils import glob_translate

from pipeline.errors import StorageError

PROBE_SECONDS = 12.0
_GLOB = re.compile(r"[*?\[]")
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"})
_T = TypeVar("_T")
_OUTAGES = (
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    aiohttp.ClientError,
    ConnectionError,
    TimeoutError,
)
_patience = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed object: `key` is its path below the listed prefix, `size` in bytes, `version` changes when it does."""

    uri: str
    key: str
    size: int
    version: str


@contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Within the block, in all threads of this process: a storage that fails to answer is asked again for `seconds`."""
    global _patience
    before, _patience = _patience, seconds
    try:
        yield
    finally:
        _patience = before


def persistently(call: Callable[[], _T]) -> _T:
    """What `call` returns; while the storage does not answer it is called again, as long as `patient` allows."""
    deadline, pause = time.monotonic() + _patience, 0.5
    while True:
        try:
            return call()
        except (OSError, botocore.exceptions.BotoCoreError, aiohttp.ClientError, StorageError) as error:
            if not is_outage(error) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


def is_outage(error: BaseException) -> bool:
    """Whether a storage did not answer, or only to say that it cannot now; s3fs gives EIO or EBUSY for its 5xx."""
    if isinstance(error, StorageError) and error.__cause__ is not None:
        return is_outage(error.__cause__)
    return isinstance(error, _OUTAGES) or (type(error) is OSError and error.errno in (errno.EIO, errno.EBUSY))


@contextmanager
def explained(uri: str, action: str) -> Iterator[None]:
    """Turn what a filesystem raises into a StorageError: one sentence that names the URI and says what to do."""
    try:
        yield
    except (OSError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, aiohttp.ClientError) as error:
        raise StorageError(f"cannot {action} {redact(uri)}: {_reason(error)}") from error


def normalize(uri: str) -> str:
    """Absolute form of `uri` without a trailing slash, so that it means the same on every machine of a cluster."""
    if "://" in uri:
        return uri.rstrip("/")
    return os.path.abspath(os.path.expanduser(uri))


def redact(uri: str) -> str:
    """`uri` fit for a log: user, password and, on the web, signed query values removed."""
    if "://" not in uri:
        return uri
    parts = urlsplit(uri)
    netloc = f"***@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else parts.netloc
    query = re.sub(r"=[^&]*", "=***", parts.query) if parts.scheme in ("http", "https") else parts.query
    return urlunsplit((parts.scheme, netloc, parts.path, query, parts.fragment))


def join(uri: str, *parts: str) -> str:
    """`uri` with path components appended."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of `uri` and the path inside it. Raises StorageError for a scheme that is not installed."""
    scheme = urlsplit(uri).scheme if "://" in uri else "file"
    options = _s3_options() if scheme in ("s3", "s3a") else {}
    try:
        fs, path = fsspec.core.url_to_fs(uri, **options)
    except (ImportError, ValueError) as error:
        raise StorageError(f"cannot open {redact(uri)}: {error}") from error
    return fs, str(path)


def arrow_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The same as `filesystem`, for readers that want a pyarrow filesystem."""
    fs, path = filesystem(uri)
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs)), path


def read_bytes(uri: str) -> bytes:
    """The whole object. Raises StorageError."""
    fs, path = filesystem(uri)
    with explained(uri, "read"):
        return bytes(persistently(lambda: fs.cat_file(path)))


def read_ranges(
    root: str, keys: Sequence[str], starts: Sequence[int | None], ends: Sequence[int | None]
) -> list[bytes | StorageError]:
    """Many objects, or ranges of objects, below `root` at once; None, None is the whole object.

    Returns:
        for each one its bytes, or a StorageError where this one object is missing or denied.

    Raises:
        StorageError: the storage itself does not answer.
    """
    fs, path = filesystem(root)
    paths = [f"{path}/{key}" if key else path for key in keys]

    def fetch() -> list[bytes | Exception]:
        found: list[bytes | Exception] = fs.cat_ranges(paths, list(starts), list(ends), on_error="return")
        for item in found:
            if isinstance(item, Exception) and is_outage(item):
                raise item
        return found

    with explained(root, "read"):
        found = persistently(fetch)
    return [_bytes_or_error(f"{root}/{key}", item) for key, item in zip(keys, found, strict=True)]


def exists(uri: str) -> bool:
    """Whether an object or a folder is there. Raises StorageError when the storage does not answer."""
    fs, path = filesystem(uri)
    with explained(uri, "look for"):
        return persistently(lambda: bool(fs.exists(path)))


def is_listed(uri: str, version: str) -> bool:
    """Whether the object at `uri` is there and still has the `version` it was listed with. Raises StorageError.

    Only local files and S3 objects tell their version in the same words by themselves as in a listing; what else is
    there counts as unchanged.
    """
    fs, path = filesystem(uri)
    with explained(uri, "read"):
        try:
            if _scheme(fs) == "file":
                return _local_version(os.stat(path)) == version
            info = persistently(lambda: fs.info(path))
        except FileNotFoundError:
            return False
        return _scheme(fs) != "s3" or _etag(info) == version


def put_whole(uri: str, data: bytes) -> None:
    """Write one object so that a reader sees all of it or nothing.

    Object stores commit on completion; elsewhere the bytes go to a hidden neighbour that is renamed into place.
    """
    fs, path = filesystem(uri)
    with explained(uri, "write"):
        if _scheme(fs) in _OBJECT_STORES:
            persistently(lambda: fs.pipe_file(path, data))
            return
        folder, _, name = path.rpartition("/")
        fs.makedirs(folder, exist_ok=True)
        hidden = f"{folder}/.{name}.{uuid.uuid4().hex}"
        try:
            fs.pipe_file(hidden, data)
            rename = os.replace if _scheme(fs) == "file" else fs.mv  # fsspec's local mv copies when renaming fails
            rename(hidden, path)
        except BaseException:
            if fs.exists(hidden):
                fs.rm(hidden)
            raise


def delete(uri: str) -> None:
    """Remove one object. Raises StorageError."""
    fs, path = filesystem(uri)
    with explained(uri, "delete"):
        persistently(lambda: fs.rm_file(path))


def list_files(uri: str) -> Iterator[Entry]:
    """Stream the files at `uri`: a folder or prefix (searched through), a glob, or one file. Hidden names are left out.

    Object listings are held a page at a time, so a bucket of millions of keys needs no more memory than a small one.
    A prefix with nothing below it yields nothing; a local path that is not there raises StorageError.
    """
    root, pattern = _split_glob(uri)
    fs, path = filesystem(root)
    matches = re.compile(glob_translate(pattern)).match if pattern else None
    with explained(uri, "list"):
        for found, size, version in _walk(fs, path):
            key = found[len(path) :].lstrip("/") or found.rpartition("/")[2]
            hidden = any(part.startswith(".") for part in key.split("/"))
            if not hidden and (matches is None or matches(key)):
                yield Entry(uri=_below(root, path, found), key=key, size=size, version=version)


def probe_readable(uri: str, seconds: float = PROBE_SECONDS) -> Entry | None:
    """The first file at `uri`, or None; a storage that does not answer in `seconds` raises StorageError."""
    return _within(seconds, uri, lambda: next(list_files(uri), None))


def probe_object(uri: str) -> None:
    """Ask for an object's head, which takes the right to read it and moves no byte of it. Raises StorageError."""
    fs, path = filesystem(uri)
    with explained(uri, "read"):
        if _scheme(fs) == "file":
            fs.open(path, "rb").close()
        elif _scheme(fs) == "s3":
            bucket, _, key = path.partition("/")
            fs.call_s3("head_object", Bucket=bucket, Key=key)
        else:
            fs.info(path)


def probe_writable(uri: str, seconds: float = PROBE_SECONDS) -> None:
    """Write a small object below `uri`, read it back and remove it. Raises StorageError within `seconds`."""
    probe = join(uri, f"_probe-{uuid.uuid4().hex}")
    token = uuid.uuid4().bytes

    def round_trip() -> None:
        fs, path = filesystem(uri)
        if _scheme(fs) == "s3":
            with explained(uri, "list"):
                next(_walk(fs, path), None)  # some servers create a bucket on writing; a misspelt one must not appear
        put_whole(probe, token)
        if read_bytes(probe) != token:
            raise StorageError(f"{redact(uri)} gives back other bytes than were written: it cannot hold results")
        delete(probe)

    _within(seconds, uri, round_trip)


def _s3_options() -> dict[str, Any]:
    """Options beyond what botocore reads from the environment itself: path-style addressing, and bounded waiting."""
    config: dict[str, Any] = {
        "connect_timeout": 5,
        "read_timeout": 60,
        "retries": {"mode": "standard", "max_attempts": 4},
    }
    options: dict[str, Any] = {"config_kwargs": config, "use_listings_cache": False}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        options["endpoint_url"] = endpoint
        config["s3"] = {"addressing_style": "path"}
    return options


def _scheme(fs: fsspec.AbstractFileSystem) -> str:
    return fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]


def _split_glob(uri: str) -> tuple[str, str]:
    """`s3://b/x/**/*.jpg` -> (`s3://b/x`, `**/*.jpg`); an empty pattern where there is no wildcard."""
    found = _GLOB.search(uri)
    if not found or ("://" not in uri and os.path.exists(uri)):
        return uri.rstrip("/") or "/", ""
    cut = uri.rfind("/", 0, found.start())
    return uri[:cut], uri[cut + 1 :]


def _below(root: str, path: str, found: str) -> str:
    """The URI of `found`, a path inside the filesystem, given that `root` is the URI of `path`."""
    return root + found[len(path) :]


def _walk(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[tuple[str, int, str]]:
    """(path, size, version) of each file below `path`, or of `path` itself when it is a file."""
    if _scheme(fs) == "file":
        yield from _walk_local(path)
    elif _scheme(fs) == "s3":
        yield from _walk_s3(fs, path)
    else:
        info = fs.info(path)
        if info["type"] == "file":
            yield path, int(info["size"] or 0), _version(info)
            return
        for _, _, files in fs.walk(path, detail=True):
            for info in files.values():
                yield info["name"], int(info["size"] or 0), _version(info)


def _walk_local(path: str) -> Iterator[tuple[str, int, str]]:
    status = os.stat(path)
    if not os.path.isdir(path):
        yield path, status.st_size, _local_version(status)
        return
    folders = [path]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file():
                    status = entry.stat()
                    yield entry.path, status.st_size, _local_version(status)


def _local_version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _walk_s3(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[tuple[str, int, str]]:
    """Keys below `path`, else the one key that `path` is. s3fs's own find() would build the whole listing in memory."""
    bucket, _, key = path.partition("/")
    items = _s3_items(fs, bucket, f"{key}/" if key else "")
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
    """What ListObjectsV2 says of the keys that begin with `prefix`, in their order, a page at a time."""
    page: dict[str, Any] = {"NextContinuationToken": None}
    while "NextContinuationToken" in page:
        token = page["NextContinuationToken"]
        more = {"ContinuationToken": token} if token else {}
        page = persistently(partial(fs.call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more))
        yield from page.get("Contents", ())


def _version(info: dict[str, Any]) -> str:
    """What changes when the object does, as far as this filesystem tells."""
    for field in ("etag", "ETag", "md5Hash", "mtime", "updated", "last_modified", "LastModified", "created"):
        if info.get(field):
            return f"{info['size']}-{info[field]}".replace('"', "")
    return str(info["size"])


def _bytes_or_error(uri: str, item: bytes | Exception) -> bytes | StorageError:
    """What one object's fetch gave; a failure that is not the object's own is raised."""
    if isinstance(item, FileNotFoundError | PermissionError | IsADirectoryError):
        return StorageError(f"cannot read {redact(uri)}: {_reason(item)}")
    if isinstance(item, Exception):
        with explained(uri, "read"):
            raise item
    return bytes(item)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such bucket, folder or object; check the spelling, or create it"
    if isinstance(error, PermissionError):
        return f"access denied ({error}); check the credentials and what they allow"
    if isinstance(error, botocore.exceptions.NoCredentialsError):
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role"
    if isinstance(error, botocore.exceptions.ConnectionError | botocore.exceptions.HTTPClientError):
        return f"no connection ({error}); check AWS_ENDPOINT_URL and the network"
    return str(error) or type(error).__name__


def _within(seconds: float, uri: str, call: Callable[[], _T]) -> _T:
    """Run `call` on a thread that may be left behind: a dead endpoint must not hold the user for its own time-out."""
    outcome: list[_T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise StorageError(
            f"{redact(uri)} did not answer within {seconds:.0f} s; check AWS_ENDPOINT_URL and the network"
        )
    return outcome[0]
