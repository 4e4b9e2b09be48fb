"""The ledger: what the committed output answers for, and what it does not."""

from pathlib import Path
from threading import Event, Thread

import pytest

from pipeline import masks, storage
from pipeline.batch import ledger
from pipeline.batch.manifest import Ids
from pipeline.batch.parts import cut
from pipeline.batch.rows import FINISHED
from pipeline.batch.sink import write_files
from pipeline.data import rows
from pipeline.errors import ConfigError
from pipeline.masks import DatasetInfo
from pipeline.runtime.lock import Lock
from tests.helpers.dataset import finished_row, info, undone

A = rows.table([{"key": "a", "version": "1"}], rows.MANIFEST)


def test_rows_of_masks_and_errors_are_done_others_are_not(tmp_path: Path) -> None:
    output = str(tmp_path)
    done = [finished_row("a", version="1"), finished_row("b", version="1", failed=True)]
    write_files(output, "x.parquet", info(generation="g"), rows.table(done, FINISHED))
    asked = [{"key": k, "version": v} for k, v in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1")]]
    pending = undone(ledger.load(output, info()), rows.table(asked, rows.MANIFEST))
    assert list(zip(pending["key"].to_pylist(), pending["version"].to_pylist(), strict=True)) == [
        ("a", "2"),
        ("c", "1"),
    ]


def test_an_image_changed_and_changed_back_is_done_again(tmp_path: Path) -> None:
    for minute, version in enumerate(("1", "2")):
        note = info(run_id=f"r{minute}", created=f"2026-01-01T00:0{minute}:00+00:00")
        finished = rows.table([finished_row("a", version=version)], FINISHED)
        write_files(str(tmp_path), f"r{minute}-0.parquet", note, finished)
    asked = rows.table([{"key": "a", "version": "1"}], rows.MANIFEST)
    assert undone(ledger.load(str(tmp_path), info()), asked).num_rows == 1


def test_only_the_newest_row_of_an_image_counts_as_failed(tmp_path: Path) -> None:
    for minute, failed in enumerate((["a", "b", "listed"], [])):
        note = info(run_id=f"r{minute}", created=f"2026-01-01T00:0{minute}:00+00:00")
        found = [finished_row(key, failed=True) for key in failed] or [finished_row("a")]
        write_files(str(tmp_path), f"r{minute}-0.parquet", note, rows.table(found, FINISHED))
    asked = [{"key": key, "version": "1"} for key in "abc"] + [{"key": "listed", "version": "1", "error": "ShardError"}]
    [part] = cut([Ids(rows.table(asked, rows.MANIFEST))])
    [failed] = part.where(ledger.load(str(tmp_path), info()).has_failed(part))
    assert failed.table["key"].to_pylist() == ["b"]


def test_another_generation_does_not_count(tmp_path: Path) -> None:
    write_files(str(tmp_path), "x.parquet", info(generation="old"), rows.table([finished_row("a")], FINISHED))
    assert undone(ledger.load(str(tmp_path), info(generation="new")), A).num_rows == 1
    assert undone(ledger.load(str(tmp_path), info(generation="old")), A).num_rows == 0


def test_an_empty_output_is_an_empty_ledger(tmp_path: Path) -> None:
    assert undone(ledger.load(str(tmp_path), info()), A).num_rows == 1


def test_what_was_done_under_names_of_version_1_is_done(tmp_path: Path) -> None:
    """Images of shards had their names there alone; a mask of them is read under today's key, and replaced under it."""
    sources = {"x": "a.tar", "a.tar#1536": "a.tar", "p.parquet#3": "p.parquet", "i.jpg": "i.jpg", "s/17": "d/p.parquet"}
    today = ["a.tar/x", "a.tar#1536", "p.parquet#3", "i.jpg", "d/p.parquet/s/17"]

    def put(name: str, note: DatasetInfo, version: str, keys: dict[str, str]) -> None:
        done = [finished_row(key, version) | {"source": f"s3://b/in/{path}"} for key, path in keys.items()]
        write_files(str(tmp_path), name, note, rows.table(done, FINISHED))

    put("r0.parquet", info(input="s3://b/in", schema_version=1), "1", sources)
    note = info(input="s3://b/in", run_id="run2", created="2026-01-03T00:00:00+00:00")
    asked = [{"key": key, "version": "1"} for key in [*today, "b.tar/x"]]
    pending = undone(ledger.load(str(tmp_path), note), rows.table(asked, rows.MANIFEST))
    assert pending["key"].to_pylist() == ["b.tar/x"]
    put("r1.parquet", note, "2", {"a.tar/x": "a.tar"})
    assert sorted(key for key, _ in masks.read(str(tmp_path))) == sorted(today)
    found = masks.verify(str(tmp_path))
    assert (found.segmented, found.replaced) == (5, 1)


def test_masks_of_another_input_are_not_replaced(tmp_path: Path) -> None:
    note = info(input="s3://b/day1")
    write_files(str(tmp_path), "x.parquet", note, rows.table([finished_row("a")], FINISHED))
    assert undone(ledger.load(str(tmp_path), note), A).num_rows == 0
    with pytest.raises(ConfigError, match="holds the masks of s3://b/day1, and the input is s3://b/day2"):
        ledger.load(str(tmp_path), info(input="s3://b/day2"))
    assert undone(ledger.load(str(tmp_path), info(input="s3://b/day2", generation="new")), A).num_rows == 1
    with pytest.raises(ConfigError, match=r"holds masks made with no flag, and this run has --image-column right: "):
        ledger.load(str(tmp_path), info(input="s3://b/day1", image_column="right"))


def test_what_is_done_now_is_newer_than_any_row_whatever_the_clocks_say(tmp_path: Path) -> None:
    note = info(generation="g", created="2026-01-02T10:00:00.999999+00:00")
    write_files(str(tmp_path), "x.parquet", note, rows.table([finished_row("a")], FINISHED))
    known = ledger.load(str(tmp_path), note)
    assert known.after("2026-01-02T09:00:00+00:00") == "2026-01-02T10:00:01+00:00"
    assert known.after("2026-01-02T10:00:00.999999+00:00") == "2026-01-02T10:00:01+00:00"
    assert known.after("2026-01-02T10:00:02+00:00") == "2026-01-02T10:00:02+00:00"
    assert ledger.load(f"{tmp_path}/other", note).after("2026") == "2026"


def test_what_a_run_puts_once_it_has_lost_its_lock_is_removed_by_the_one_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A put that has begun goes on: by then its images are being done again."""
    output, has_begun, may_end = str(tmp_path), Event(), Event()
    former, mine = (Lock(output=output, place="_runs/lock.json", lease=0.5, settle=0.05) for _ in range(2))
    put = storage.put_whole

    def slow(uri: str, data: bytes, **options: bool) -> None:
        if uri.endswith("-00001.parquet"):
            has_begun.set()
            may_end.wait(60)
        put(uri, data, **options)

    def write(lock: Lock, number: int, key: str) -> None:
        note = info(run_id=lock.run_id, created=f"2026-01-01T00:0{number}:00+00:00")
        finished = rows.table([finished_row(key)], FINISHED)
        write_files(output, f"{lock.run_id}-{number:05d}.parquet", note, finished, lock.check)

    monkeypatch.setattr(storage, "put_whole", slow)
    former.take()
    write(former, 0, "b")
    late = Thread(target=write, args=(former, 1, "a"))
    late.start()
    assert has_begun.wait(60)
    mine.take()
    assert (former.former, mine.former) == ("", former.run_id)
    done = ledger.load(output, info())
    assert undone(done, A).num_rows == 1
    write(mine, 2, "a")
    may_end.set()
    late.join()
    assert len(masks.committed_files(output)) == 3
    assert any("'a' has a second row" in problem.what for problem in masks.verify(output).problems)
    done.remove_late(output, info(generation="another"), mine.former, mine.check)
    assert len(masks.committed_files(output)) == 3
    done.remove_late(output, info(), mine.former, mine.check)
    assert not any("second row" in problem.what for problem in masks.verify(output).problems)
    left = [storage.base_name(file.uri) for file in masks.committed_files(output)]
    assert left == [f"{mine.run_id}-00002.parquet", f"{former.run_id}-00000.parquet"]
