"""The ledger: what the committed output answers for, and what it does not."""

from pathlib import Path

from dataset import finished_row, info

from pipeline.batch import ledger, rows
from pipeline.batch.sink import write_files


def test_rows_of_masks_and_errors_are_done_others_are_not(tmp_path: Path) -> None:
    output = str(tmp_path)
    done = [finished_row("a", version="1"), finished_row("b", version="1", failed=True)]
    write_files(output, "x.parquet", info(generation="g"), rows.table(done, rows.FINISHED))
    asked = [{"key": k, "version": v} for k, v in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1")]]
    pending = ledger.load(output, "g").pending(rows.table(asked, rows.MANIFEST))
    assert list(zip(pending["key"].to_pylist(), pending["version"].to_pylist(), strict=True)) == [
        ("a", "2"),
        ("c", "1"),
    ]


def test_an_image_changed_and_changed_back_is_done_again(tmp_path: Path) -> None:
    for minute, version in enumerate(("1", "2")):
        note = info(run_id=f"r{minute}", created=f"2026-01-01T00:0{minute}:00+00:00")
        finished = rows.table([finished_row("a", version=version)], rows.FINISHED)
        write_files(str(tmp_path), f"r{minute}-0.parquet", note, finished)
    asked = rows.table([{"key": "a", "version": "1"}], rows.MANIFEST)
    assert ledger.load(str(tmp_path), "g").pending(asked).num_rows == 1


def test_only_the_newest_row_of_an_image_counts_as_failed(tmp_path: Path) -> None:
    for minute, failed in enumerate((["a", "b", "listed"], [])):
        note = info(run_id=f"r{minute}", created=f"2026-01-01T00:0{minute}:00+00:00")
        found = [finished_row(key, failed=True) for key in failed] or [finished_row("a")]
        write_files(str(tmp_path), f"r{minute}-0.parquet", note, rows.table(found, rows.FINISHED))
    asked = [{"key": key, "version": "1"} for key in "abc"] + [{"key": "listed", "version": "1", "error": "ShardError"}]
    done = ledger.load(str(tmp_path), "g")
    assert done.failed(rows.table(asked, rows.MANIFEST))["key"].to_pylist() == ["b"]


def test_another_generation_does_not_count(tmp_path: Path) -> None:
    write_files(str(tmp_path), "x.parquet", info(generation="old"), rows.table([finished_row("a")], rows.FINISHED))
    assert len(ledger.load(str(tmp_path), "new")) == 0
    assert len(ledger.load(str(tmp_path), "old")) == 1


def test_an_empty_output_is_an_empty_ledger(tmp_path: Path) -> None:
    assert len(ledger.load(str(tmp_path), "g")) == 0


def test_key_and_version_are_not_run_together() -> None:
    assert ledger.identity("a1", "2") != ledger.identity("a", "12") != ledger.identity("2", "a1")
