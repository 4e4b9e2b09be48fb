"""The read tasks of the main job, as plain calls."""

from pipeline import storage
from pipeline.batch import fetch
from pipeline.batch.fetch import ManifestDatasource
from pipeline.batch.manifest import Chunk
from pipeline.batch.parcels import unpacked
from pipeline.batch.tracker import LocalTracker
from pipeline.data import rows
from pipeline.data.source import open_source
from tests.helpers.pictures import jpeg, photo


def test_a_read_task_asks_its_storage_again_for_as_long_as_the_run_that_made_it(tmp_path, monkeypatch) -> None:
    storage.put_whole(f"{tmp_path}/a.jpg", jpeg(photo(0)))
    seen = []

    def fetch_chunk(*_):
        seen.append(storage.retry_seconds())
        yield rows.table([{"key": "a"}], rows.FETCHED)

    monkeypatch.setattr(fetch, "fetch_chunk", fetch_chunk)
    tracker = LocalTracker()
    with storage.retrying(7.0):
        datasource = ManifestDatasource(open_source(str(tmp_path), "auto"), "", [Chunk(0, 0, 1)], tracker, 8)
    [task] = datasource.get_read_tasks(1)
    [table] = task()
    assert unpacked(table)["key"].to_pylist() == ["a"]
    assert seen == [7.0]
    assert storage.retry_seconds() == 0
    assert tracker.counts().images == {"fetch": 1}
