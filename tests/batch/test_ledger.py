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


def test_another_generation_does_not_count(tmp_path: Path) -> None:
    write_files(str(tmp_path), "x.parquet", info(generation="old"), rows.table([finished_row("a")], rows.FINISHED))
    assert len(ledger.load(str(tmp_path), "new")) == 0
    assert len(ledger.load(str(tmp_path), "old")) == 1


def test_an_empty_output_is_an_empty_ledger(tmp_path: Path) -> None:
    assert len(ledger.load(str(tmp_path), "g")) == 0


def test_key_and_version_are_not_run_together() -> None:
    assert ledger.identity("a1", "2") != ledger.identity("a", "12") != ledger.identity("2", "a1")
