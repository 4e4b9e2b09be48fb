"""Listing ahead of the work: rounds of what is there by then, no more than the work can take, and its own errors."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.batch import ahead, parts
from pipeline.batch.ahead import Round, listing_ahead
from pipeline.batch.manifest import Ids, read_chunk
from pipeline.batch.parts import Part
from pipeline.data import rows
from pipeline.errors import StorageError


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_LEAST_IDS", 1)
    monkeypatch.setattr(parts, "_MOST_IDS", 1)
    monkeypatch.setattr(ahead, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(ahead, "_LATER_SECONDS", 0.01)


def ids(name: str) -> Ids:
    return Ids(rows.table([{"key": name, "version": "1"}], rows.MANIFEST))


def everything(part: Part) -> list[Ids]:
    return list(part.ids)


def keys(taken: Round | None) -> list[str]:
    assert taken is not None
    manifest = taken.manifest
    return [key for chunk in manifest.chunks for key in read_chunk(manifest.uri, chunk)["key"].to_pylist()]


def test_work_begins_while_the_listing_goes_on(tmp_path: Path) -> None:
    is_worked_on = threading.Event()

    def listed() -> Iterator[Ids]:
        yield ids("a")
        assert is_worked_on.wait(60)
        yield from map(ids, "bcd")

    with listing_ahead(str(tmp_path), listed(), everything) as rounds:
        assert keys(rounds.take(0)) == ["a"]
        assert not rounds.is_ended
        is_worked_on.set()
        found = []
        while taken := rounds.take(3):
            found += keys(taken)
        assert found == ["b", "c", "d"]
        assert (rounds.is_ended, rounds.rows) == (True, 4)


def test_nothing_to_do_is_no_round(tmp_path: Path) -> None:
    with listing_ahead(str(tmp_path), map(ids, "abc"), lambda _: []) as rounds:
        assert rounds.take(0) is None
    assert list(tmp_path.iterdir()) == []


def test_the_listing_waits_where_the_work_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MOST_ROWS", 5)
    asked: list[str] = []

    def listed() -> Iterator[Ids]:
        for n in range(100):
            asked.append(f"{n:03d}")
            yield ids(asked[-1])

    with listing_ahead(str(tmp_path), listed(), everything) as rounds:
        first = rounds.take(5)
        assert len(keys(first)) <= 5
        while taken := rounds.take(5):
            assert len(keys(taken)) <= 5
        assert rounds.rows == 100
    asked.clear()
    with listing_ahead(str(tmp_path), listed(), everything) as rounds:
        rounds.take(5)
    assert len(asked) < 20  # who works no longer ends the listing


def test_a_listing_that_fails_raises_its_own_error_between_rounds_and_in_one(tmp_path: Path) -> None:
    is_worked_on = threading.Event()

    def listed() -> Iterator[Ids]:
        yield ids("a")
        assert is_worked_on.wait(60)
        raise StorageError("gone")

    with listing_ahead(str(tmp_path), listed(), everything) as rounds:
        assert keys(rounds.take(0)) == ["a"]
        rounds.raise_failure()
        is_worked_on.set()
        with pytest.raises(StorageError, match="gone"):
            rounds.take(1)
        with pytest.raises(StorageError, match="gone"):
            rounds.raise_failure()
