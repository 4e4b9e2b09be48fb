"""Parts of a listing: every id in one, in order, cut by what the ids are and not by how many came before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.batch import parts
from pipeline.batch.manifest import Ids
from pipeline.batch.parts import cut
from pipeline.data import rows


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_LEAST_IDS", 4)
    monkeypatch.setattr(parts, "_MOST_IDS", 16)


def ids(names: list[str], whole: bool = False) -> Ids:
    return Ids(rows.table([{"key": name, "version": "1"} for name in names], rows.MANIFEST), whole)


def names(part: parts.Part) -> list[str]:
    return [key for some in part.ids for key in some.table["key"].to_pylist()]


LISTED = [f"{n:04d}" for n in range(2000)]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=30))
def test_every_id_is_in_one_part_and_what_is_whole_stays_whole(pages: list[tuple[int, bool]]) -> None:
    listed, start = [], 0
    for count, whole in pages:
        listed.append(ids(LISTED[start : start + count], whole))
        start += count
    found = list(cut(listed))
    assert [name for part in found for name in names(part)] == LISTED[:start]
    assert all(part.rows == len(names(part)) > 0 for part in found)
    tables = {tuple(some.table["key"].to_pylist()) for part in found for some in part.ids if some.whole}
    assert tables == {tuple(some.table["key"].to_pylist()) for some in listed if some.whole and some.table.num_rows}


def test_parts_start_small_and_stay_bounded() -> None:
    sizes = [part.rows for part in cut(ids(LISTED[n : n + 50]) for n in range(0, 2000, 50))]
    assert max(sizes) <= 4 * 16 + 50
    assert np.mean(sizes[:4]) < np.mean(sizes[4:])
    assert sizes[0] <= 4 * 4


def test_an_image_that_comes_changes_the_parts_around_it_alone() -> None:
    """Though all pages behind it begin with another."""

    def digests(listed: list[str]) -> set[str]:
        return {part.id.digest for part in cut(ids(listed[n : n + 7]) for n in range(0, len(listed), 7))}

    before, after = digests(LISTED), digests(sorted([*LISTED, "1000-new"]))
    assert len(before) > 50
    assert len(before - after) <= 4
    assert len(after - before) <= 4


def test_a_part_knows_its_keys_in_any_order() -> None:
    (part, *_) = cut([ids(["b", "é", "a"])])
    assert part.id.keys == (min(names(part)), max(names(part)))
    chosen = np.array([name == "b" for name in names(part)])
    assert [some.table["key"].to_pylist() for some in part.where(chosen)] == [["b"]]
