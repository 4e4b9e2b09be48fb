"""What training reads and writes waits for a storage that does not answer."""

import threading

import pytest

from pipeline import storage
from pipeline.data.labelled import list_pairs
from pipeline.errors import StorageError
from pipeline.labels import Labels
from pipeline.runtime.labelled import _fetch
from pipeline.training.checkpoints import Checkpoints
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
    table = during_an_outage(proxy, lambda: _fetch(pairs, Labels(classes=CLASSES), storage.retry_seconds()))
    assert table["problem"].to_pylist() == [None, None]


def test_checkpoints_are_written_and_looked_for_and_read(proxy):
    checkpoints = Checkpoints(folder=f"{new_bucket()}/run", check=lambda: None)

    def put():
        checkpoints.put(b"x" * 100_000, step=2, loss=1.0, mean_iou=None)

    during_an_outage(proxy, put)
    newest = during_an_outage(proxy, lambda: checkpoints.newest(pytest.fail))
    assert newest.state == b"x" * 100_000
    assert during_an_outage(proxy, lambda: checkpoints.best(pytest.fail)) == newest
