"""An image that takes its worker down, at last alone, is given up; every other image comes through."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import pyarrow as pa
import pytest

from pipeline.batch.isolation import FIRST_UNIT, Isolation
from pipeline.batch.tracker import Finished, LocalTracker, Loss, finished_by
from pipeline.data import rows


class WorkerKilled(BaseException):
    """Stands for the death of the process: nothing after it runs."""


def batch(*keys: str) -> pa.Table:
    return rows.table([{"key": key, "image": b"x"} for key in keys], rows.FETCHED)


def whole(tables: Iterator[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables)


def until_done(tracker: LocalTracker, keys: str, poison: str) -> tuple[list[str], list[str], int]:
    """Repeat a batch as Ray repeats the task of a dead actor; (keys processed, keys given up, deaths)."""

    def process(units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for unit in units:
            if set(unit["key"].to_pylist()) & set(poison):
                raise WorkerKilled
            yield unit

    for deaths in range(20):
        try:
            done = whole(Isolation("segment", tracker).run(batch(*keys), process, rows.FETCHED))
        except WorkerKilled:
            continue
        errors = done["error"].to_pylist()
        pairs = list(zip(done["key"].to_pylist(), errors, strict=True))
        return [k for k, e in pairs if e is None], [k for k, e in pairs if e is not None], deaths
    raise AssertionError("the batch never came through")


def test_a_healthy_batch_is_processed_at_once() -> None:
    tracker = LocalTracker()
    taken: list[list[str]] = []

    def process(units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for unit in units:
            taken.append(unit["key"].to_pylist())
            yield unit

    done = whole(Isolation("segment", tracker).run(batch("a", "b"), process, rows.FETCHED))
    assert taken == [done["key"].to_pylist()] == [["a", "b"]]
    assert tracker.take("segment", ["a", "b"]) == {}


def test_a_poison_image_is_found_by_halves_and_costs_itself() -> None:
    done, lost, deaths = until_done(LocalTracker(), "abcdef", poison="d")
    assert (sorted(done), lost, deaths) == (list("abcef"), ["d"], 3)  # of six, of three, alone
    keys = "".join(map(chr, range(200, 456)))
    done, lost, deaths = until_done(LocalTracker(), keys, poison=keys[77])
    assert (len(done), lost, deaths) == (255, [keys[77]], 9)  # of 256, 128, ... 2, alone


def test_an_image_that_is_alone_in_its_batch_has_two_workers_too() -> None:
    assert until_done(LocalTracker(), "a", poison="a") == ([], ["a"], 2)
    tracker = LocalTracker()
    tracker.take("segment", ["a"])  # and its machine was lost
    assert until_done(tracker, "a", poison="") == (["a"], [], 0)


def test_several_poison_images_are_all_found() -> None:
    done, lost, _ = until_done(LocalTracker(), "abcdef", poison="adf")
    assert (sorted(done), sorted(lost)) == (list("bce"), list("adf"))


def test_a_worker_that_died_by_chance_costs_nothing() -> None:
    tracker = LocalTracker()
    tracker.take("segment", ["a", "b"])  # never ended
    done, lost, deaths = until_done(tracker, "abc", poison="")
    assert (sorted(done), lost, deaths) == (list("abc"), [], 0)
    assert tracker.take("segment", list("abc")) == {}


def test_stages_do_not_share_attempts() -> None:
    tracker = LocalTracker()
    tracker.take("segment", ["a"])
    assert tracker.take("refine", ["a"]) == {}


def test_counts_by_stage_and_what_waits_between_them() -> None:
    tracker = LocalTracker()
    for keys, seconds in ((["a", "b"], 2.0), (["c"], 1.0)):
        tracker.take("segment", keys)
        tracker.end("segment", keys, seconds)
    tracker.take("refine", ["a"])
    assert tracker.counts().waiting == 2
    tracker.end("fetch", ["a", "b", "c"], 0.5)  # a chunk ends when some of it is segmented
    assert tracker.counts().waiting == 2
    tracker.end("refine", ["a"], 4.0)
    tracker.end("refine", [], 0.0, Finished(["a", "b"], failed=1, kept=5))  # b failed in decoding, and was not refined
    counts = tracker.counts()
    assert (counts.waiting, counts.finished, counts.failed, counts.kept) == (1, 2, 1, 5)
    assert counts.images == {"fetch": 3, "segment": 3, "refine": 1}
    assert counts.seconds == {"fetch": 0.5, "segment": 3.0, "refine": 4.0}


def test_an_image_done_again_waits_once() -> None:
    tracker = LocalTracker()
    for _ in range(2):
        tracker.end("segment", ["a"], 1.0)
    tracker.take("refine", ["a"])
    assert tracker.counts().waiting == 0


def test_rows_keep_their_order_whatever_becomes_of_them() -> None:
    tracker = LocalTracker()
    tracker.take("segment", ["b", "d"])
    tracker.begin("segment", ["b"])  # begun again, alone: given up
    failed = rows.table([{"key": "c", "stage": "fetch", "error": "StorageError", "message": "gone"}], rows.FETCHED)
    table = pa.concat_tables([batch("a", "b"), failed, batch("d", "e")])
    done = whole(Isolation("segment", tracker).run(table, lambda units: units, rows.FETCHED))
    assert done["key"].to_pylist() == list("abcde")
    assert done["error"].to_pylist() == [None, "WorkerError", "StorageError", None, None]


def test_units_of_work_start_small_and_grow_while_they_take_no_second() -> None:
    tracker, sizes = LocalTracker(), list[int]()

    def process(units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for unit in units:
            sizes.append(unit.num_rows)
            yield unit

    isolation = Isolation("segment", tracker)
    keys = [str(number) for number in range(100)]
    assert whole(isolation.run(batch(*keys), process, rows.FETCHED))["key"].to_pylist() == keys
    whole(isolation.run(batch(*keys), process, rows.FETCHED))
    assert sizes == [FIRST_UNIT, 2 * FIRST_UNIT, 100 - 3 * FIRST_UNIT, 100]
    assert tracker.counts().images == {"segment": 200}


class Told(LocalTracker):
    """Remembers what was told of units that ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[tuple[list[str], Finished | None]] = []

    def end(self, stage: str, keys: Sequence[str], seconds: float, finished: Finished | None = None) -> None:
        self.ends.append((list(keys), finished))
        super().end(stage, keys, seconds, finished)


@pytest.mark.parametrize("ahead", [1, 2, 9])
def test_what_a_batch_has_finished_is_told_with_its_last_unit(ahead: int) -> None:
    """However many units the stage works on at a time; before that each is told of as it ends."""
    tracker, keys, told = Told(), [str(number) for number in range(4 * FIRST_UNIT)], list[int]()

    def process(units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        under_way = list(islice(units, ahead))
        while under_way:
            yield under_way.pop(0)
            told.append(len(tracker.ends))
            under_way += islice(units, 1)

    isolation = Isolation("refine", tracker)
    done = whole(isolation.run(batch(*keys), process, rows.FETCHED, lambda done: finished_by(done, 2 * done.num_rows)))
    assert done["key"].to_pylist() == keys
    ended = [unit for unit, _ in tracker.ends]
    assert len(ended) > 2
    assert list(chain(*ended)) == keys
    assert told == [*range(1, len(ended)), len(ended) - 1]
    assert [finished for _, finished in tracker.ends] == [None] * (len(ended) - 1) + [Finished(keys, 0, 2 * len(keys))]
    assert (tracker.counts().finished, tracker.take("refine", keys)) == (len(keys), {})


def test_a_batch_with_nothing_to_do_is_finished_by_one_note_and_another_stage_s_by_none() -> None:
    failed = rows.table([{"key": "c", "stage": "fetch", "error": "StorageError", "message": "gone"}], rows.FETCHED)
    tracker = Told()
    whole(Isolation("segment", tracker).run(failed, lambda units: units, rows.FETCHED))
    assert tracker.ends == []
    whole(Isolation("refine", tracker).run(failed, lambda units: units, rows.FETCHED, finished_by))
    assert tracker.ends == [([], Finished(["c"], 1))]


def test_what_is_done_of_a_batch_is_not_suspected() -> None:
    """A stage takes the next unit while it works on one; whichever kills the worker, both are looked at."""
    tracker = LocalTracker()

    def process(units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        yield next(units)
        under_way = [next(units), next(units)]
        raise WorkerKilled(under_way)

    keys = [str(number) for number in range(4 * FIRST_UNIT)]
    with pytest.raises(WorkerKilled):
        whole(Isolation("segment", tracker).run(batch(*keys), process, rows.FETCHED))
    lost = tracker.take("segment", keys)
    assert lost == dict.fromkeys(keys[FIRST_UNIT:], Loss(1, 4 * FIRST_UNIT))


def test_units_that_are_tried_again_are_noted_one_after_the_other() -> None:
    tracker, sizes = LocalTracker(), list[int]()
    keys = [str(number) for number in range(2 * FIRST_UNIT)]
    tracker.take("segment", keys)

    def process(units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for unit in units:
            sizes.append(unit.num_rows)
            if len(sizes) == 2:
                raise WorkerKilled
            yield unit

    with pytest.raises(WorkerKilled):
        whole(Isolation("segment", tracker).run(batch(*keys), process, rows.FETCHED))
    assert sizes == [FIRST_UNIT, FIRST_UNIT]
    assert tracker.take("segment", keys) == dict.fromkeys(keys[FIRST_UNIT:], Loss(2, FIRST_UNIT))


def test_rows_come_as_soon_as_they_are_done_and_are_noted_until_the_next_are_asked_for() -> None:
    """Handing on takes memory too: whoever dies of it must not do so again and again without a trace."""
    tracker, keys = LocalTracker(), [str(number) for number in range(3 * FIRST_UNIT)]
    noted = tracker._open["segment"]

    def process(units: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for unit in units:
            worked_on.append(unit.num_rows)
            yield unit

    worked_on: list[int] = []
    run = Isolation("segment", tracker).run(batch(*keys), process, rows.FETCHED)
    assert next(run)["key"].to_pylist() == keys[:FIRST_UNIT]
    assert (worked_on, list(noted)) == ([FIRST_UNIT], keys)
    assert next(run)["key"].to_pylist() == keys[FIRST_UNIT:]
    assert list(noted) == keys[FIRST_UNIT:]
    assert list(run) == []
    assert not noted


def test_rows_wait_for_those_before_them_alone() -> None:
    tracker, keys = LocalTracker(), [str(number) for number in range(2 * FIRST_UNIT)]
    lost = keys[FIRST_UNIT - 1]
    tracker.take("segment", [lost])
    run = Isolation("segment", tracker).run(batch(*keys), lambda units: units, rows.FETCHED)
    assert [table["key"].to_pylist() for table in run] == [keys[: FIRST_UNIT - 1], keys[FIRST_UNIT - 1 :]]


def test_an_image_that_kills_its_worker_once_it_is_handed_on_is_given_up_too() -> None:
    tracker, keys = LocalTracker(), [str(number) for number in range(3 * FIRST_UNIT)]
    for deaths in range(20):
        run = Isolation("segment", tracker).run(batch(*keys), lambda units: units, rows.FETCHED)
        errors = dict[str, str | None]()
        for table in run:
            good = [
                key
                for key, error in zip(table["key"].to_pylist(), table["error"].to_pylist(), strict=True)
                if not error
            ]
            if keys[20] in good:
                break
            errors |= zip(table["key"].to_pylist(), table["error"].to_pylist(), strict=True)
        else:
            assert (deaths, [key for key in keys if errors[key]]) == (6, [keys[20]])
            return
    raise AssertionError("the batch never came through")
