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
    """Make `uri` absolute, without a trailing slash, so that it means the same on every machine of a cluster."""
    if "://" in uri:
        return uri.rstrip("/")
    return os.path.abspath(os.path.expanduser(uri))


def redact(uri: str) -> str:
    """Make `uri` fit for a log: without user, password and, on the web, the values of its query."""
    user = credentials(uri)
    if user:
        uri = uri.replace(f"://{user}@", "://***@", 1)
    scheme, _, _ = uri.partition("://")
    if scheme not in ("http", "https"):
        return uri
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(query=re.sub(r"=[^&]*", "=***", parts.query)))


def credentials(uri: str) -> str:
    """Return user and password as they stand in `uri`, before the bucket or host; empty where there are none."""
    scheme, _, rest = uri.partition("://")
    first = rest.partition("/")[0]
    if "@" in first:
        return first.rpartition("@")[0]
    if scheme in S3_SCHEMES and ":" in first and not first.startswith("arn:"):  # a secret key may hold slashes
        return rest.rpartition("@")[0]
    return ""


def scrubbed(text: str, uri: str) -> str:
    """Remove from `text`, which other code wrote about `uri`, all that `redact` removes from `uri`."""
    secrets = [credentials(uri)] + (urlsplit(uri).query.split("&") if uri.startswith(("http://", "https://")) else [])
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def join(uri: str, *parts: str) -> str:
    """Append path components to `uri` as they are: in a bucket `a`, `/a` and `a/` are three names."""
    return "/".join([uri.rstrip("/"), *parts])


def split_glob(uri: str) -> tuple[str, str]:
    """Split `s3://b/x/**/*.jpg` into `s3://b/x` and `**/*.jpg`, an empty pattern where there is no wildcard."""
    wildcard = _GLOB.search(uri)
    if not wildcard or ("://" not in uri and os.path.exists(uri)):
        return uri.rstrip("/") or "/", ""
    cut = uri.rfind("/", 0, wildcard.start())
    return uri[:cut], uri[cut + 1 :]


def literal_start(pattern: str) -> str:
    """Return the part of a glob before its first wildcard."""
    wildcard = _GLOB.search(pattern)
    return pattern[: wildcard.start()] if wildcard else pattern


def below(root: str, path: str, file: str) -> str:
    """Return the URI of `file`, a path inside the filesystem, given that `root` is the URI of `path`."""
    return root + file[len(path) :]
