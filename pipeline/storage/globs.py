"""Wildcards in a URI: where they begin, and what they match."""

import re
from collections.abc import Callable

from fsspec.utils import glob_translate

from pipeline.errors import ConfigError
from pipeline.storage.uri import S3_SCHEMES, WEB_SCHEMES, redact, scheme_of, split_query, without_last_slash

_WILDCARD = re.compile(r"[*?\[]")


def split_glob(uri: str) -> tuple[str, str]:
    """Split `s3://b/x/**/*.jpg` into `s3://b/x` and `**/*.jpg`, an empty pattern where there is no wildcard.

    Raises:
        ConfigError: a wildcard in the name of a bucket or host, or one that means nothing.
    """
    wildcard = _WILDCARD.search(uri)
    if split_query(uri)[1]:  # the address of one object
        return uri, ""
    if not wildcard:
        return without_last_slash(uri), ""
    cut = uri.rfind("/", 0, wildcard.start()) + 1
    root, pattern = without_last_slash(uri[:cut]) or ".", uri[cut:]
    if root.endswith("://") and scheme_of(root) in (*S3_SCHEMES, *WEB_SCHEMES):
        raise ConfigError(f"{redact(uri)} has a wildcard in the name of its bucket or host; name one of them")
    if any("**" in part and part != "**" for part in pattern.split("/")):
        raise ConfigError(
            f"{redact(uri)}: `**` stands for folders, alone between slashes; write **/*.jpg for the files of "
            "all folders below, or *.jpg for those of one"
        )
    return root, pattern


def literal_start(pattern: str) -> str:
    """Return the part of a glob before its first wildcard."""
    wildcard = _WILDCARD.search(pattern)
    return pattern[: wildcard.start()] if wildcard else pattern


def file_matcher(pattern: str) -> Callable[[str], bool]:
    """Return a test of a path below the root of a glob; without a pattern, all match."""
    matches = re.compile(glob_translate(pattern or "**")).match
    return lambda path: matches(path) is not None


def folder_matcher(pattern: str) -> Callable[[str], bool]:
    """Return a test of a folder's path below the root of a glob: whether files that match can lie in it."""
    *folders, last = (pattern or "**").split("/")
    if last == "**":
        folders.append(last)
    depth = folders.index("**") if "**" in folders else len(folders)
    by_depth = [file_matcher("/".join(folders[: level + 1])) for level in range(depth)]

    def matches(folder: str) -> bool:
        level = folder.count("/")
        if level < depth:
            return by_depth[level](folder)
        return depth < len(folders) and (not depth or by_depth[-1]("/".join(folder.split("/")[:depth])))

    return matches
