"""What a worker loads: a process that fetches, counts or writes starts quickly, and there are many of them."""

import sys
from typing import Any

import pytest
import ray

from pipeline import storage
from pipeline.batch.fetch import ManifestDatasource
from pipeline.batch.listing import list_input
from pipeline.batch.manifest import Manifest
from pipeline.batch.remote_tracker import RemoteTracker
from pipeline.data.source import open_source
from tests.helpers.pictures import jpeg, photo
from tests.helpers.waiting import until

FRESH = {"env_vars": {"FRESH": "yes"}}
"""Gives a process that no other test has used."""


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_fetches_loads_no_torch(tmp_path: Any) -> None:
    storage.put_whole(f"{tmp_path}/in/a.jpg", jpeg(photo(0)))
    source, manifest = open_source(f"{tmp_path}/in", "auto"), Manifest(f"{tmp_path}/manifest")
    manifest.write(list_input(source, limit=None)[1])
    manifest.close()
    tracker = RemoteTracker()
    [read] = ManifestDatasource(source, manifest.uri, manifest.chunks, tracker, 8).get_read_tasks(1)

    def fetched(task: Any) -> tuple[int, bool]:
        return sum(table.num_rows for table in task()), "torch" in sys.modules

    assert ray.get(ray.remote(fetched).options(num_cpus=0, runtime_env=FRESH).remote(read)) == (1, False)
    assert until(lambda: tracker.counts().images == {"fetch": 1})  # notes do not wait, so it may come after the rows
    tracker.stop()
