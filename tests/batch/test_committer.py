"""When finished blocks become files, and what is known of them."""

import time
from pathlib import Path

import ray

from pipeline import masks
from pipeline.batch.parcels import as_parcel
from pipeline.batch.rows import FINISHED
from pipeline.batch.sink import Committer
from pipeline.data import rows
from tests.helpers.dataset import finished_row, info


def test_blocks_are_committed_by_size_and_by_time(cluster: None, tmp_path: Path) -> None:
    committer = Committer(str(tmp_path), info(), 60.0, lambda: None)
    add(committer, "a", 100 * 2**20)
    add(committer, "b", 100 * 2**20)
    committer.commit_if_due()
    assert committer.receipts == []
    add(committer, "c", 100 * 2**20)  # more than 224 MiB
    wait_for_receipts(committer, 1)
    add(committer, "d", 1)
    committer.seconds = 0.0
    wait_for_receipts(committer, 2)
    add(committer, "e", 1)
    committer.finish()
    assert [receipt.segmented for receipt in committer.receipts] == [3, 1, 1]
    assert all(receipt.seconds > 0 for receipt in committer.receipts)
    assert sorted(key for key, _ in masks.read(str(tmp_path))) == list("abcde")
    assert len(list((tmp_path / "masks").iterdir())) == 3


def test_to_be_compact_what_is_committed_early_waits_for_a_whole_file(cluster: None, tmp_path: Path) -> None:
    """Its rows are counted at once, and seen when they fill one, or when the round ends."""
    committer = Committer(str(tmp_path), info(), 0.0, lambda: None, compact=True)
    for number, key in enumerate("abc", 1):
        add(committer, key, 100 * 2**20)
        if key != "c":
            wait_for_receipts(committer, number)
            assert not list(tmp_path.glob("masks/*"))
    wait_for_receipts(committer, 4)
    assert [path.name for path in tmp_path.glob("masks/*")] == ["run1-00000.parquet"]
    for key in "de":
        add(committer, key, 1)
        wait_for_receipts(committer, committer.rows + 2)
    committer.finish()
    assert committer.rows == 5
    assert [path.name for path in sorted(tmp_path.glob("masks/*"))] == ["run1-00000.parquet", "run1-00003.parquet"]
    assert sorted(key for key, _ in masks.read(str(tmp_path))) == list("abcde")
    assert not list(tmp_path.glob("_staged/*/*"))
    written = {(file.uri, file.size, file.keys) for receipt in committer.receipts for file in receipt.files}
    assert written == {(file.uri, file.size, file.keys) for file in masks.committed_files(str(tmp_path))}


def add(committer: Committer, key: str, size: int) -> None:
    parcel = as_parcel(rows.table([finished_row(key)], FINISHED))
    committer.add(ray.put(parcel), size)


def wait_for_receipts(committer: Committer, count: int) -> None:
    """Receipts come with the ticks, not only where a run ends."""
    deadline = time.monotonic() + 60
    while len(committer.receipts) < count and time.monotonic() < deadline:
        committer.commit_if_due()
        time.sleep(0.1)
    assert len(committer.receipts) == count
