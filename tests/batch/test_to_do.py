"""What is to do, by notes and by the ledger: nothing lost and nothing twice, whatever a run was stopped at."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import masks
from pipeline.batch import ahead, ledger, parts
from pipeline.batch.ahead import listing_ahead
from pipeline.batch.listing import Listing
from pipeline.batch.manifest import Ids, read_chunk
from pipeline.batch.notes import Notes
from pipeline.batch.rows import FINISHED
from pipeline.batch.sink import Committer, write_files
from pipeline.batch.to_do import ToDo
from pipeline.data import rows
from pipeline.errors import RunError
from tests.helpers.dataset import finished_row, info

Images = dict[str, str]
"""Version by key, in the order of the listing."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_LEAST_IDS", 8)
    monkeypatch.setattr(parts, "_MOST_IDS", 8)
    monkeypatch.setattr(ahead, "MOST_ROWS", 16)


class Puts:
    """Stands for a run's lock: it is asked before each put, and after `allowed` of them the run is killed."""

    def __init__(self, allowed: int) -> None:
        self.left = allowed

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RunError("killed")


def run(output: str, images: Images, number: int, puts: int = 10**6) -> int:
    """List, work in rounds and commit as a run does, but for the graph; returns how many rows it added."""
    note = info(run_id=f"run{number}", created=f"2026-01-01T00:{number // 60:02d}:{number % 60:02d}+00:00")
    lock = Puts(puts)
    committer = Committer(output, note, 60.0, lock.check)
    notes = Notes(output=output, info=note, check=lock.check)
    to_do = ToDo(ledger=ledger.load(output, note), listing=Listing(), notes=notes, errors=False)
    with listing_ahead(f"{output}/_runs/{note.run_id}", listed(images), to_do.of) as rounds:
        while todo := rounds.take(committer.rows):
            for chunk in todo.manifest.chunks:
                asked = read_chunk(todo.manifest.uri, chunk).to_pylist()
                done = [finished(row["key"], row["version"]) for row in asked]
                name = f"{note.run_id}-{len(committer.receipts):05d}.parquet"
                committer.receipts.append(write_files(output, name, note, rows.table(done, FINISHED), lock.check))
            to_do.note(todo.parts, committer)
    assert to_do.listing.skipped + committer.rows == len(images)
    return committer.rows


def finished(key: str, version: str) -> dict[str, Any]:
    """Make a row; some images fail."""
    if key.endswith("7"):
        return finished_row(key, version, failed=True)
    classes = [{"id": n, "name": "", "pixels": 3 - n, "confidence": 1.0} for n in range(3)]
    return finished_row(key, version) | {"classes": classes}


def listed(images: Images) -> Iterator[Ids]:
    pairs = [{"key": key, "version": version} for key, version in images.items()]
    return (Ids(rows.table(pairs[n : n + 10], rows.MANIFEST)) for n in range(0, len(pairs), 10))


def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the files whose rows are read from now on."""
    read: list[str] = []
    whole = ledger._read
    monkeypatch.setattr(ledger, "_read", lambda file: read.append(file.uri) or whole(file))
    return read


def recounted(output: str) -> int:
    found = masks.verify(output)
    assert found.problems == ()
    return found.segmented + found.failed


IMAGES = {f"{n:03d}": "1" for n in range(100)}


def test_a_rerun_reads_no_rows_of_finished_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But those of the last, which the end of the listing has cut, and of those where something has changed."""
    output = str(tmp_path)
    assert run(output, IMAGES, 0) == 100
    read = read_files(monkeypatch)
    assert run(output, IMAGES, 1) == 0
    assert len(read) <= 2 < len(list((tmp_path / "masks").iterdir()))
    read.clear()
    assert run(output, IMAGES | {"050": "2"}, 2) == 1
    assert len(read) <= 6
    assert recounted(output) == 100


def test_an_image_changed_and_changed_back_is_done_again(tmp_path: Path) -> None:
    output = str(tmp_path)
    for number, version in enumerate("121"):
        assert run(output, IMAGES | {"050": version}, number) == (1 if number else 100)
        assert run(output, IMAGES | {"050": version}, 10 + number) == 0


def test_what_was_lost_is_done_again_whatever_a_note_says(tmp_path: Path) -> None:
    output = str(tmp_path)
    run(output, IMAGES, 0)
    lost = sorted((tmp_path / "masks").iterdir())[3]
    kept = len(list(masks.read(output)))
    lost.unlink()
    gone = kept - len(list(masks.read(output)))
    assert run(output, IMAGES, 1) == gone > 0
    assert recounted(output) == 100


def test_another_generation_has_notes_of_its_own(tmp_path: Path) -> None:
    output = str(tmp_path)
    run(output, IMAGES, 0)
    note = info(run_id="run1", generation="another")
    notes = Notes(output=output, info=note, check=lambda: None)
    to_do = ToDo(ledger=ledger.load(output, note), listing=Listing(), notes=notes, errors=False)
    assert sum(ids.table.num_rows for part in parts.cut(listed(IMAGES)) for ids in to_do.of(part)) == 100


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_a_run_killed_at_any_put_is_continued(tmp_path: Path, order: str) -> None:
    """Wherever: before a file, between a part's files, before and between the notes on its parts."""
    images = dict(IMAGES)
    if order == "shuffled":
        keys = list(images)
        random.Random(1).shuffle(keys)
        images = dict.fromkeys(keys, "1")
    for puts in (1, 2, 3, 9, 16, 23):
        output, number = f"{tmp_path}/{puts}", 0
        while True:
            try:
                run(output, images, number, puts + number)
                break
            except RunError:
                number += 1
        assert number > 0 or puts > 20
        assert recounted(output) == len(images)
        assert run(output, images, 60) == 0
