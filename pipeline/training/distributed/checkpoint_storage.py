"""The storage in which Ray Train keeps a run's checkpoints, asked again while it does not answer."""

from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
import pyarrow.fs
from ray.train import Checkpoint

from pipeline import storage
from pipeline.storage.access import explained

STATE_FILE = "state.pt"

_T = TypeVar("_T")


def checkpoint_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Open a filesystem for Ray Train, and give the path of the folder `uri` there.

    Whatever process uses it asks a storage that does not answer again for as long as this process would now.
    """
    filesystem, path = storage.filesystem(uri)
    return pyarrow.fs.PyFileSystem(_CheckpointHandler(filesystem, storage.retry_seconds())), path


def read_state(folder: str, checkpoint: Checkpoint) -> bytes:
    """Read a checkpoint's STATE_FILE, in the run at the URI `folder`. Raises StorageError."""
    return storage.read_bytes(storage.join(folder, PurePosixPath(checkpoint.path).name, STATE_FILE))


class _CheckpointHandler(pyarrow.fs.FSSpecHandler):  # type: ignore[misc]  # pyarrow has no types
    """Do what Ray Train asks of a filesystem: whole small files, and checkpoints, each put as one object."""

    def __init__(self, filesystem: fsspec.AbstractFileSystem, retry_seconds: float) -> None:
        super().__init__(filesystem)
        self._retry_seconds = retry_seconds

    def get_file_info(self, paths: list[str]) -> list[pyarrow.fs.FileInfo]:
        return [self._ask(path, "look for", partial(self._file_info, path)) for path in paths]

    def create_dir(self, path: str, recursive: bool) -> None:
        self._ask(path, "write", lambda: super(_CheckpointHandler, self).create_dir(path, recursive))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(self._ask(path, "read", lambda: self.fs.cat_file(path)))

    def open_output_stream(self, path: str, _: Any) -> pa.NativeFile:
        def put(data: bytes) -> None:
            self._ask(path, "write", lambda: self.fs.pipe_file(path, data))

        return pa.PythonFile(_WholeFile(put), "w")

    def _file_info(self, path: str) -> pyarrow.fs.FileInfo:
        return super().get_file_info([path])[0]

    def _ask(self, path: str, action: str, call: Callable[[], _T]) -> _T:
        """Return what `call` does. Raises StorageError."""
        with explained(self.fs.unstrip_protocol(path), action), storage.retrying(self._retry_seconds):
            return storage.with_retries(call)


class _WholeFile:
    """A file to write: its bytes are put all at once when it is closed, and never where it is not."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put, self._parts = put, list[bytes]()
        self.closed = False

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def tell(self) -> int:
        return sum(map(len, self._parts))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._put(b"".join(self._parts))
