"""URIs as text: made absolute, joined, redacted, and split at their wildcards."""

import os
import re
from urllib.parse import urlsplit, urlunsplit

_GLOB = re.compile(r"[*?\[]")


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


def split_glob(uri: str) -> tuple[str, str]:
    """`s3://b/x/**/*.jpg` -> (`s3://b/x`, `**/*.jpg`); an empty pattern where there is no wildcard."""
    found = _GLOB.search(uri)
    if not found or ("://" not in uri and os.path.exists(uri)):
        return uri.rstrip("/") or "/", ""
    cut = uri.rfind("/", 0, found.start())
    return uri[:cut], uri[cut + 1 :]


def below(root: str, path: str, found: str) -> str:
    """The URI of `found`, a path inside the filesystem, given that `root` is the URI of `path`."""
    return root + found[len(path) :]
