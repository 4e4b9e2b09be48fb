"""The filesystem behind a URI, and what its errors mean to a person."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import fsspec

from pipeline.errors import MissingError, StorageError
from pipeline.storage import outages
from pipeline.storage.client_errors import CLIENT_ERRORS, client_errors, http_status, s3_code
from pipeline.storage.uri import S3_SCHEMES, WEB_SCHEMES, credentials, redact, scheme_of, scrubbed

_ATTEMPTS = 4
_ERRORS = (OSError, ValueError, NotImplementedError)
"""The last two of a filesystem that cannot take a name, cannot write, or has no ranges."""


def filesystem(uri: str, *, once: bool = False) -> tuple[fsspec.AbstractFileSystem, str]:
    """Open the filesystem of `uri`; returns it and the path inside it. With `once` the client of S3 asks nothing again.

    Raises:
        StorageError: a scheme that is not installed, or an S3 URI with credentials, which nobody would use.
    """
    scheme = scheme_of(uri) or "file"
    attempts = 1 if once else _ATTEMPTS
    options = _s3_options(attempts) if scheme in S3_SCHEMES else {}
    if options and credentials(uri):
        raise StorageError(
            f"{redact(uri)} holds credentials, which a URI of S3 cannot; "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        )
    try:
        if scheme in (*S3_SCHEMES, "file"):  # whose names may hold what fsspec chains filesystems by, `::`
            kind = fsspec.get_filesystem_class(scheme)
            fs = kind(**options)
            if scheme in S3_SCHEMES:
                fs.split_path = partial(_split, fs)
            if once:
                fs.retries = attempts  # those of s3fs itself; the instance is one of these options alone
            return fs, str(kind._strip_protocol(uri))
        if scheme in WEB_SCHEMES:
            from pipeline.storage.web import WebFileSystem, timeout  # with a client that takes long to load

            return WebFileSystem(client_kwargs={"timeout": timeout()}), uri
        fs, path = fsspec.core.url_to_fs(uri, **options)
    except Exception as error:  # whatever the library behind a scheme raises, such as TypeError for lack of an option
        remedy = "; it takes a package of its own on every machine, by pip" if isinstance(error, ImportError) else ""
        raise StorageError(f"cannot open {redact(uri)}: {scrubbed(str(error), uri)}{remedy}") from error
    return fs, str(path)


def bucket_and_key(fs: fsspec.AbstractFileSystem, path: str) -> tuple[str, str]:
    """Split a path inside S3. A bucket may be the ARN of an access point, which holds slashes."""
    bucket, key, _ = fs.split_path(path)
    return str(bucket), str(key)


def _split(fs: fsspec.AbstractFileSystem, path: str) -> tuple[str, str, None]:
    """Split as s3fs does, which takes `?versionId=` in a name for its end, and would read another object."""
    start, mark, rest = path.partition("?versionId=")
    bucket, key, _ = type(fs).split_path(fs, start)
    return bucket, key + mark + rest, None


@contextmanager
def explained(uri: str, action: str) -> Iterator[None]:
    """Turn what a filesystem raises into one sentence that names the URI and says what to do.

    Raises:
        MissingError: what `uri` names is not there, or was replaced while it was read.
        StorageError: anything else that a filesystem raises.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (*_ERRORS, *client_errors(*CLIENT_ERRORS))):
            raise
        missing = isinstance(error, (FileNotFoundError, *client_errors("s3fs.utils.FileExpired")))
        kind = MissingError if missing else StorageError
        raise kind(f"cannot {action} {redact(uri)}: {scrubbed(reason(error), uri)}") from error


def concerns_one_object(error: StorageError) -> bool:
    """Tell whether a storage refuses one object alone: a file without permission, a key of KMS, an archived object.

    Any other refusal may be of the credentials, and so of all objects.
    """
    cause, code = error.__cause__, s3_code(error.__cause__)
    has_no_permission = isinstance(cause, PermissionError) and cause.errno == errno.EACCES  # that of S3 has no number
    return has_no_permission or code.startswith("KMS.") or code == "InvalidObjectState"


def scheme(fs: fsspec.AbstractFileSystem) -> str:
    """Return the name of a filesystem's kind: file, s3, memory ..."""
    return fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]


def _s3_options(attempts: int) -> dict[str, Any]:
    """Return what botocore does not read from the environment itself: path-style addressing, and bounded waiting."""
    config: dict[str, Any] = {
        "connect_timeout": outages.CONNECT_SECONDS,
        "read_timeout": outages.READ_SECONDS,
        "signature_version": "s3v4",  # of addresses that are signed too
        "retries": {"mode": "standard", "total_max_attempts": attempts},
    }
    options: dict[str, Any] = {"config_kwargs": config, "use_listings_cache": False}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        options["endpoint_url"] = endpoint
        config["s3"] = {"addressing_style": "path"}
    return options


def reason(error: Exception) -> str:
    """Say why a storage did not do what it was asked, and what to do about it."""
    if isinstance(error, FileNotFoundError):
        return "there is no such bucket, folder or object; check the spelling, or create it"
    if isinstance(error, PermissionError):
        return f"access denied ({error}); check the credentials and what they allow"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space is left there ({error.strerror}); free some, or choose another place"
    if isinstance(error, client_errors("botocore.exceptions.NoCredentialsError")):
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role"
    if isinstance(error, client_errors("botocore.exceptions.ConnectionError", "botocore.exceptions.HTTPClientError")):
        return f"no connection ({error}); check AWS_ENDPOINT_URL and the network"
    if (status := http_status(error)) is not None and hasattr(error, "message"):  # its own text may hold the whole URL
        return f"the server answers {status} {' '.join(str(error.message).split())}"
    return str(error) or type(error).__name__
