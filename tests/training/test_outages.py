"""What training reads and writes waits for a storage that does not answer."""

import threading

import pyarrow.fs
import pytest

from pipeline import storage
from pipeline.data.labelled import list_pairs
from pipeline.errors import StorageError
from pipeline.labels import Labels
from pipeline.runtime.labelled import _fetch
from pipeline.training.distributed.checkpoint_storage import checkpoint_filesystem
from tests.helpers.labelled import CLASSES, put_camvid
from tests.helpers.servers import new_bucket


def during_an_outage(proxy, call):
    """Call `call` without retries, which raises, and with a minute of them; give what it returns then."""
    proxy.fault = "refuse"
    with pytest.raises(StorageError):
        call()
    threading.Timer(1, setattr, (proxy, "fault", "none")).start()
    with storage.retrying(60.0):
        return call()


def test_pairs_are_fetched(proxy):
    bucket = new_bucket()
    put_camvid(bucket, "train", 2)
    pairs = list_pairs(bucket, "camvid", "train")
    [table] = during_an_outage(proxy, lambda: list(_fetch(pairs, Labels(classes=CLASSES), storage.retry_seconds())))
    assert table["problem"].to_pylist() == [None, None]


def test_checkpoints_are_written_and_looked_for_and_read(proxy, tmp_path):
    bucket = new_bucket()
    for name, data in (("state.pt", b"x" * 100_000), ("empty", b"")):
        (tmp_path / name).write_bytes(data)

    def put():
        filesystem, path = checkpoint_filesystem(f"{bucket}/run")
        filesystem.create_dir(path)
        pyarrow.fs.copy_files(str(tmp_path), path, destination_filesystem=filesystem)
        return filesystem, path

    filesystem, path = during_an_outage(proxy, put)
    assert filesystem.get_file_info(f"{path}/empty").size == 0
    assert filesystem.get_file_info(f"{path}/other").type == pyarrow.fs.FileType.NotFound

    def size():
        filesystem, path = checkpoint_filesystem(f"{bucket}/run")
        return filesystem.get_file_info(f"{path}/state.pt").size

    def read():
        filesystem, path = checkpoint_filesystem(f"{bucket}/run")
        with filesystem.open_input_stream(f"{path}/state.pt") as stream:
            return stream.read()

    assert during_an_outage(proxy, size) == 100_000
    assert during_an_outage(proxy, read) == b"x" * 100_000


def test_a_local_folder_holds_checkpoints_too(tmp_path):
    filesystem, path = checkpoint_filesystem(f"{tmp_path}/runs")
    filesystem.create_dir(path)
    with filesystem.open_output_stream(f"{path}/note") as stream:
        stream.write(b"first ")
        stream.write(b"second")
    assert (tmp_path / "runs" / "note").read_bytes() == b"first second"
    with pytest.raises(StorageError, match="no such"):
        filesystem.open_input_stream(f"{path}/other")
