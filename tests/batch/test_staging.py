"""Rows that wait for more: no reader sees one twice, and none is lost, wherever a merge is stopped."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import masks, storage
from pipeline.batch import ledger
from pipeline.batch.rows import FINISHED
from pipeline.batch.sink import write_files
from pipeline.batch.staging import adopt, merge, staged
from pipeline.data import rows
from pipeline.errors import RunError
from tests.helpers.dataset import finished_row, info, undone

NAMES = [f"run1-{n:05d}.parquet" for n in range(4)]


def stage(output: str) -> None:
    """Stage three files, the last without a mask, behind one that went into masks/ and errors/ at once."""
    for n, name in enumerate(NAMES):
        keys = [f"{n}x"] if n == 3 else [f"{n}a", f"{n}b", f"{n}x"]
        found = [finished_row(key, failed=key.endswith("x")) for key in keys]
        root = f"{output}/{masks.STAGED_FOLDER}" if n else output
        write_files(root, name, info(), rows.table(found, FINISHED))


ALL = sorted([*(f"{n}{letter}" for n in range(3) for letter in "abx"), "3x"])


def counted(output: str) -> list[str]:
    """List the keys that a program finds which reads every file of masks/ and errors/, as DuckDB does."""
    return sorted(key for file in masks.committed_files(output) for (key,) in masks.read_columns(file.uri, ["key"]))


class Stops:
    """Raises at the n-th time that something is put or deleted."""

    def __init__(self, allowed: int) -> None:
        self.left = allowed

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RunError("killed")


def again(output: str, check: Callable[[], None]) -> None:
    """Repeat the task, as Ray does, and then let the next run begin."""
    merge(output, NAMES[1:], check)
    adopt(output, check)


@pytest.mark.parametrize("then", [adopt, again], ids=["next run", "repeated task"])
@pytest.mark.parametrize("allowed", range(9))
def test_a_merge_may_be_stopped_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int, then: Callable[[str, Callable[[], None]], None]
) -> None:
    output, stops, delete = str(tmp_path), Stops(allowed), storage.delete
    monkeypatch.setattr(storage, "delete", lambda uri: (stops.count(), delete(uri)))
    stage(output)
    asked = rows.table([{"key": key, "version": "1"} for key in [*ALL, "new"]], rows.MANIFEST)
    try:
        merge(output, NAMES[1:], stops.count)
    except RunError:
        assert allowed < 8
    for left in range(9):
        found = counted(output)
        assert len(found) == len(set(found))
        assert set(found) <= set(ALL)
        assert undone(ledger.load(output, info()), asked)["key"].to_pylist() == ["new"]
        stops.left = left  # what comes then is stopped as well
        try:
            then(output, stops.count)
            break
        except RunError:
            continue
    assert counted(output) == ALL
    assert staged(output) == []


def test_what_is_not_merged_yet_is_moved_file_by_file(tmp_path: Path) -> None:
    """Where some of it was: of the group whose first file bears the name, nothing comes again."""
    output = str(tmp_path)
    stage(output)
    kept = {path: path.read_bytes() for path in (tmp_path / "_staged").rglob("*.parquet")}
    merge(output, NAMES[1:3], lambda: None)
    for path, data in kept.items():
        path.write_bytes(data)
    assert len(staged(output)) == 5
    adopt(output, lambda: None)
    assert counted(output) == ALL
    assert staged(output) == []
    assert len(list((tmp_path / "errors").iterdir())) == 3
    adopt(output, lambda: None)
    assert counted(output) == ALL


def test_half_a_file_of_a_run_that_was_killed_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = [(masks.MASKS_FOLDER, "a.parquet"), (f"{masks.STAGED_FOLDER}/{masks.ERRORS_FOLDER}", "b\n.parquet")]
    foreign = tmp_path / masks.MASKS_FOLDER / ".b.parquet"

    def killed(*_: str) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", killed)
        patched.setattr("fsspec.implementations.local.LocalFileSystem.rm", lambda *_: None)
        for folder, name in put:
            with pytest.raises(SystemExit):
                storage.put_whole(f"{tmp_path}/{folder}/{name}", b"x")
    foreign.touch()
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3
    adopt(str(tmp_path), lambda: None)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [foreign]
