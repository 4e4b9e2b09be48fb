"""The files of an input, and what is left out of them by its name."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from pipeline import storage
from pipeline.images import EXTENSIONS


def input_files(uri: str, on_skip: storage.OnSkip) -> Iterator[storage.Entry]:
    """Stream files as `storage.list_files` does, and images whose names begin with `_`, as some cameras write them."""
    return storage.list_files(uri, on_skip, keeps=_is_from_a_camera)


def _is_from_a_camera(name: str) -> bool:
    """Tell whether a name is like _DSC1234.JPG, Nikon's and others' for pictures in Adobe RGB."""
    return name.startswith("_") and PurePosixPath(name).suffix.lower() in EXTENSIONS
