"""URIs as text: made absolute, joined, redacted, and split at their wildcards."""

import os
import re
from urllib.parse import urlsplit, urlunsplit

S3_SCHEMES = ("s3", "s3a")


class Uri(str):
    """A path or URI in a configuration. Where that is printed or written down, credentials in it are not."""

    __slots__ = ()


_GLOB = re.compile(r"[*?\[]")


def normalize(uri: str) -> str:
    """Absolute form of `uri` without a trailing slash, so that it means the same on every machine of a cluster."""
    if "://" in uri:
        return uri.rstrip("/")
    return os.path.abspath(os.path.expanduser(uri))


def redact(uri: str) -> str:
    """`uri` fit for a log: user, password and, on the web, signed query values removed."""
    user = credentials(uri)
    if user:
        uri = uri.replace(f"://{user}@", "://***@", 1)
    scheme, _, _ = uri.partition("://")
    if scheme not in ("http", "https"):
        return uri
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(query=re.sub(r"=[^&]*", "=***", parts.query)))


def credentials(uri: str) -> str:
    """User and password as they stand in `uri`, before the bucket or host; empty where there are none."""
    scheme, _, rest = uri.partition("://")
    first = rest.partition("/")[0]
    if "@" in first:
        return first.rpartition("@")[0]
    if scheme in S3_SCHEMES and ":" in first and not first.startswith("arn:"):  # a secret key may hold slashes
        return rest.rpartition("@")[0]
    return ""


def scrubbed(text: str, uri: str) -> str:
    """`text`, which somebody else wrote about `uri`, without what `redact` takes out of it."""
    secrets = [credentials(uri)] + (urlsplit(uri).query.split("&") if uri.startswith(("http://", "https://")) else [])
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def join(uri: str, *parts: str) -> str:
    """`uri` with path components appended, as they are: in a bucket `a`, `/a` and `a/` are three names."""
    return "/".join([uri.rstrip("/"), *parts])


def split_glob(uri: str) -> tuple[str, str]:
    """`s3://b/x/**/*.jpg` -> (`s3://b/x`, `**/*.jpg`); an empty pattern where there is no wildcard."""
    found = _GLOB.search(uri)
    if not found or ("://" not in uri and os.path.exists(uri)):
        return uri.rstrip("/") or "/", ""
    cut = uri.rfind("/", 0, found.start())
    return uri[:cut], uri[cut + 1 :]


def literal_start(pattern: str) -> str:
    """What a glob begins with before its first wildcard."""
    found = _GLOB.search(pattern)
    return pattern[: found.start()] if found else pattern


def below(root: str, path: str, found: str) -> str:
    """The URI of `found`, a path inside the filesystem, given that `root` is the URI of `path`."""
    return root + found[len(path) :]
