"""An image that takes its worker down twice is given up; every other image comes through."""

import pyarrow as pa

from pipeline.batch.isolation import run_isolated
from pipeline.batch.tracker import LocalTracker
from pipeline.data import rows


class WorkerKilled(BaseException):
    """Stands for the death of the process: nothing after it runs."""


def batch(*keys: str) -> pa.Table:
    return rows.table([{"key": key, "image": b"x"} for key in keys], rows.FETCHED)


def until_done(tracker: LocalTracker, keys: str, poison: str) -> tuple[list[str], list[str], int]:
    """Repeat a batch as Ray repeats the task of a dead actor; (keys processed, keys given up, deaths)."""

    def process(part: pa.Table) -> pa.Table:
        if set(part["key"].to_pylist()) & set(poison):
            raise WorkerKilled
        return part

    for deaths in range(20):
        try:
            done = pa.concat_tables(run_isolated("segment", batch(*keys), process, tracker))
        except WorkerKilled:
            continue
        errors = done["error"].to_pylist()
        pairs = list(zip(done["key"].to_pylist(), errors, strict=True))
        return [k for k, e in pairs if e is None], [k for k, e in pairs if e is not None], deaths
    raise AssertionError("the batch never came through")


def test_a_healthy_batch_is_processed_at_once() -> None:
    tracker = LocalTracker()
    parts = run_isolated("segment", batch("a", "b"), lambda part: part, tracker)
    assert [part["key"].to_pylist() for part in parts] == [["a", "b"]]
    assert tracker.lost_attempts("segment", ["a", "b"]) == [0, 0]


def test_one_poison_image_costs_two_deaths_and_itself() -> None:
    done, lost, deaths = until_done(LocalTracker(), "abcdef", poison="d")
    assert (sorted(done), lost, deaths) == (list("abcef"), ["d"], 2)


def test_several_poison_images_are_all_found() -> None:
    done, lost, _ = until_done(LocalTracker(), "abcdef", poison="adf")
    assert (sorted(done), sorted(lost)) == (list("bce"), list("adf"))


def test_a_worker_that_died_by_chance_costs_nothing() -> None:
    tracker = LocalTracker()
    tracker.begin("segment", ["a", "b"])  # begun, never ended
    done, lost, deaths = until_done(tracker, "abc", poison="")
    assert (sorted(done), lost, deaths) == (list("abc"), [], 0)
    assert tracker.lost_attempts("segment", list("abc")) == [0, 0, 0]


def test_stages_do_not_share_attempts() -> None:
    tracker = LocalTracker()
    tracker.begin("segment", ["a"])
    assert tracker.lost_attempts("refine", ["a"]) == [0]


def test_counts_by_stage_and_what_waits_between_them() -> None:
    tracker = LocalTracker()
    tracker.end("fetch", ["a", "b", "c"], 0.5)
    for keys, seconds in ((["a", "b"], 2.0), (["c"], 1.0)):
        tracker.begin("segment", keys)
        tracker.end("segment", keys, seconds)
    tracker.begin("refine", ["a"])
    assert tracker.counts().waiting == 2
    tracker.end("refine", ["a"], 4.0)
    tracker.finish(["a", "b"], failed=1, kept=5)  # b failed while it was decoded, and was not refined
    counts = tracker.counts()
    assert (counts.waiting, counts.finished, counts.failed, counts.kept) == (1, 2, 1, 5)
    assert counts.images == {"fetch": 3, "segment": 3, "refine": 1}
    assert counts.seconds == {"fetch": 0.5, "segment": 3.0, "refine": 4.0}


def test_an_image_done_again_waits_once() -> None:
    tracker = LocalTracker()
    for _ in range(2):
        tracker.end("segment", ["a"], 1.0)
    tracker.begin("refine", ["a"])
    assert tracker.counts().waiting == 0
