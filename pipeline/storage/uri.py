"""URIs as text: made absolute, joined, redacted, and split at their wildcards."""

import os
import re
from urllib.parse import unquote, urlsplit

from pipeline.errors import ConfigError

S3_SCHEMES = ("s3", "s3a")
WEB_SCHEMES = ("http", "https")
_LOCAL_SCHEMES = ("file", "local")
_THIS_HOST = re.compile(r"^://localhost(?=/)", re.IGNORECASE)
_CONTAINER_SCHEMES = ("abfs", "abfss", "az", "wasb", "wasbs", "oci")
"""Whose URIs are scheme://container@host/path."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=://|::.*://)")
_ONE_SLASH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/(?!/).*)", re.DOTALL)
_LINK = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*(?:://|::))")
"""Between the URIs of a chain, such as simplecache::https://host/x."""

_SIGNS = r"x-(?:amz|goog|oss)-[\w-]+|signature|sig"
_SIGNATURE = re.compile(rf"([?&](?:{_SIGNS})=)[^&]*", re.IGNORECASE)
"""In a URI of any scheme, where all else behind a question mark is part of a name."""
_SIGNED = re.compile(rf"(?<![\w.-])(?:{_SIGNS}|hmac|expires|expiry|exp|hm|oh)=", re.IGNORECASE)
"""What the query of a signed address holds; the last two of Discord's and Facebook's."""
_SECRET = re.compile(
    r"(?:token|secret|passw|credential|api[_-]?key|access[_-]?key|subscription[_-]?key)[\w.-]{0,40}="
    r"|(?<![\w.-])(?:key|pass|pwd|auth|authorization|jwt|sid|session|(?:j|php)?sess(?:ion)?_?id)=",
    re.IGNORECASE,
)
"""What values are called that are secrets."""
_PARAMETER = re.compile(r"(;[\w.-]+=)[^/;?&]*")
_IN_TEXT = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*::)*[A-Za-z][A-Za-z0-9+.-]*://\S+")

_START = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?/?")


class Uri(str):
    """A path or URI in a configuration. Where that is printed or written down, credentials in it are not."""

    __slots__ = ()

    def __new__(cls, text: str) -> "Uri":
        """Take a path as it stands, and a URI with its scheme in small letters. Raises ConfigError for neither.

        `file://localhost/x` is `file:///x` (RFC 8089).
        """
        _check(text)
        scheme = scheme_of(text)
        rest = text[len(scheme) :]
        if scheme in _LOCAL_SCHEMES:
            rest = _THIS_HOST.sub("://", rest)
        return super().__new__(cls, scheme + rest)


def _check(text: str) -> None:
    """Raise ConfigError for text that is neither a path nor a URI."""
    if not text:
        raise ConfigError("it is empty; give a path or a URI, such as s3://bucket/folder")
    if "\0" in text or _is_not_utf8(text):
        raise ConfigError(f"{text!r} is not text in UTF-8 without null characters; rename the file or folder")
    if one_slash := _ONE_SLASH.fullmatch(text):
        scheme, path = one_slash.groups()
        uri = f"{scheme}://{path}" if scheme == "file" else f"{scheme}:/{path}"
        raise ConfigError(f"a URI has two slashes behind {scheme}:, here is one; write {redact(uri)}")
    scheme = scheme_of(text)
    try:
        host = urlsplit(text).netloc if scheme else ""
    except ValueError as error:
        raise ConfigError(f"it is not a valid URI: {scrubbed(str(error), text)}") from None
    if scheme in (*S3_SCHEMES, *WEB_SCHEMES) and not host:
        part = "bucket" if scheme in S3_SCHEMES else "host"
        raise ConfigError(f"{scheme}:// names no {part}; write {scheme}://{part}/folder")
    if scheme in _LOCAL_SCHEMES and not _THIS_HOST.sub("://", text[len(scheme) :]).startswith(":///"):
        raise ConfigError(  # fsspec would begin where the process does, which on each machine is elsewhere
            f"{redact(text)} names no absolute path, or one on another host; write {scheme}:///folder, or a path"
        )


def _is_not_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI in small letters: s3, https ...; empty for a local path."""
    scheme = _SCHEME.match(uri)
    return scheme[0].lower() if scheme else ""


def normalize(uri: str) -> str:
    """Make `uri` absolute, without a trailing slash, so that it means the same on every machine of a cluster."""
    if scheme_of(uri):
        location, query = split_query(uri)
        return without_last_slash(location) + query
    return os.path.abspath(os.path.expanduser(uri))


def absolute(text: str, file: str) -> str:
    """Make a path or URI absolute that stands in `file`: a relative one begins where that lies.

    Its parts `.` and `..` are followed in a bucket too, as those of a local path are.

    Raises:
        ConfigError: it is neither a path nor a URI, or leads out of the bucket or host.
    """
    uri = Uri(text)
    if is_absolute(uri):
        return str(uri)
    location = split_query(file)[0]
    if not scheme_of(file):
        return normalize(location.rpartition("/")[0] + f"/{uri}")
    start = location.index("/", location.index("://") + len("://"))
    folders = location[start + 1 :].split("/")[:-1]
    is_on_web = scheme_of(file) in WEB_SCHEMES
    path, mark, query = uri.partition("?") if is_on_web else (uri, "", "")
    for part in path.split("/"):
        if part == ".." and not folders:
            raise ConfigError(f"{path} leads out of {redact(location[:start])}, where the file that names it lies")
        if part == "..":
            folders.pop()
        elif part != ".":
            folders.append(part)
    return normalize(location[:start] + "/" + "/".join(folders)) + mark + query


def is_absolute(uri: str) -> bool:
    """Tell whether a path or URI means the same wherever it stands."""
    return uri.startswith("/") or bool(scheme_of(uri))


def split_query(uri: str) -> tuple[str, str]:
    """Split `https://host/x?a=b` into `https://host/x` and `?a=b`; any other URI has no query, but names with `?`."""
    if scheme_of(uri) not in WEB_SCHEMES or "?" not in uri:
        return uri, ""
    start = uri.index("?")
    return uri[:start], uri[start:]


def without_last_slash(uri: str) -> str:
    """Remove slashes at the end of `uri`, but for those that it begins with."""
    start = _START.match(uri)
    assert start is not None
    return start[0] + uri[start.end() :].rstrip("/")


def redact(uri: str) -> str:
    """Make `uri` fit for a log: without user, password and, on the web, the values of its query and its fragment."""
    return "::".join(_redacted(part, all_values=True) for part in _LINK.split(uri))


def redact_secrets(uri: str) -> str:
    """Make `uri` fit for a key: as `redact` does, but with what its query says beside secrets.

    That may be all that tells two images apart. Of a query that is signed or expires nothing is left: it is another one
    each time.
    """
    return "::".join(_redacted(part, all_values=False) for part in _LINK.split(uri))


def redact_text(text: str) -> str:
    """Make a text fit for a log that may have URIs in it, such as what a person gave to a wrong flag."""
    return _IN_TEXT.sub(lambda found: redact(found[0]), text)


def _redacted(uri: str, *, all_values: bool) -> str:
    user = _user(uri)
    if user:
        uri = uri.replace(f"://{user}@", "://***@", 1)
    if scheme_of(uri) not in WEB_SCHEMES:
        return _SIGNATURE.sub(r"\1***", uri) if scheme_of(uri) else uri
    address, mark, fragment = uri.partition("#")
    location, query = split_query(_PARAMETER.sub(_without_session, address))
    all_values = all_values or _is_signed(query)
    query = "&".join(_shown(part, all_values=all_values) for part in query.split("&"))
    return location + query + (f"{mark}***" if fragment else mark)


def _is_signed(query: str) -> bool:
    return _SIGNED.search(unquote(query)) is not None


def _shown(part: str, *, all_values: bool) -> str:
    """Redact one part of a query, the first with its question mark. A number alone is no secret."""
    name, equals, _ = part.partition("=")
    if equals:
        return f"{name}=***" if all_values or _SECRET.search(unquote(part)) else part
    mark, word = part[: part.startswith("?")], part.removeprefix("?")
    return mark + ("***" if word and not word.isdigit() else word)


def _without_session(parameter: re.Match[str]) -> str:
    """Redact a parameter in a path, such as ;jsessionid=1."""
    return f"{parameter[1]}***" if _SECRET.search(parameter[1]) else parameter[0]


def credentials(uri: str) -> str:
    """Return user and password as they stand in `uri`, before the bucket or host; empty where there are none."""
    return next(filter(None, map(_user, _LINK.split(uri))), "")


def _user(uri: str) -> str:
    scheme, rest = scheme_of(uri), uri.partition("://")[2]
    first = rest.partition("/")[0]
    if "@" in first:
        user = first.rpartition("@")[0]
        return "" if scheme in _CONTAINER_SCHEMES and ":" not in user else user
    return rest.rpartition("@")[0] if _is_cut(scheme, first) else ""


def _is_cut(scheme: str, first: str) -> bool:
    """Tell whether a user and the start of a password stand where bucket or host do: a password may hold slashes."""
    _, colon, port = first.rpartition(":")
    if scheme in S3_SCHEMES:
        return bool(colon) and not first.startswith("arn:")
    return bool(colon and port) and not port.isdigit() and not set("?#[]") & set(first)


def scrubbed(text: str, uri: str) -> str:
    """Remove from `text`, which other code wrote about `uri`, all that `redact` removes from `uri`."""
    for part in _LINK.split(uri):
        address, _, fragment = part.partition("#") if scheme_of(part) in WEB_SCHEMES else (part, "", "")
        values = split_query(address)[1].removeprefix("?").split("&")
        hidden = [value for value in values if _shown(value, all_values=True) != value]
        others = [match[0] for match in (*_SIGNATURE.finditer(part), *_PARAMETER.finditer(address))]
        for secret in filter(None, (_user(part), *hidden, *others, fragment)):
            text = text.replace(secret, "***")
    return text


def join(uri: str, *parts: str) -> str:
    """Append path components to `uri` as they are: in a bucket `a`, `/a` and `a/` are three names."""
    location, query = split_query(uri)
    location = without_last_slash(location)
    return ("" if location.endswith("/") else "/").join([location, "/".join(parts)]) + query


def parent(uri: str, key: str) -> str:
    """Return the URI that `key` is below: `join` of both is `uri`."""
    location, query = (uri, "") if "?" in key else split_query(uri)  # of a link it is in the key already
    return without_last_slash(location[: len(location) - len(key)]) + query


def base_name(uri: str) -> str:
    """Return the last component of a URI or path, without the query that it may have on the web."""
    return split_query(uri)[0].rpartition("/")[2]


def below(root: str, path: str, file: str) -> str:
    """Return the URI of `file`, a path inside the filesystem, given that `root` is the URI of `path`."""
    return root + file[len(path) :]
