"""An image that takes its worker down twice is given up; every other image comes through."""

import pyarrow as pa

from pipeline.batch.in_flight import InFlight, survive
from pipeline.data import rows


class WorkerKilled(BaseException):
    """Stands for the death of the process: nothing after it runs."""


def batch(*keys: str) -> pa.Table:
    return rows.table([{"key": key, "image": b"x"} for key in keys], rows.FETCHED)


def until_done(watch: InFlight, keys: str, poison: str) -> tuple[list[str], list[str], int]:
    """Repeat a batch as Ray repeats the task of a dead actor; (keys processed, keys given up, deaths)."""

    def process(part: pa.Table) -> pa.Table:
        if set(part["key"].to_pylist()) & set(poison):
            raise WorkerKilled
        return part

    for deaths in range(20):
        try:
            done = pa.concat_tables(survive("segment", batch(*keys), process, watch))
        except WorkerKilled:
            continue
        errors = done["error"].to_pylist()
        pairs = list(zip(done["key"].to_pylist(), errors, strict=True))
        return [k for k, e in pairs if e is None], [k for k, e in pairs if e is not None], deaths
    raise AssertionError("the batch never came through")


def test_a_healthy_batch_is_processed_at_once() -> None:
    watch = InFlight()
    parts = survive("segment", batch("a", "b"), lambda part: part, watch)
    assert [part["key"].to_pylist() for part in parts] == [["a", "b"]]
    assert watch.strikes("segment", ["a", "b"]) == [0, 0]


def test_one_poison_image_costs_two_deaths_and_itself() -> None:
    done, lost, deaths = until_done(InFlight(), "abcdef", poison="d")
    assert (sorted(done), lost, deaths) == (list("abcef"), ["d"], 2)


def test_several_poison_images_are_all_found() -> None:
    done, lost, _ = until_done(InFlight(), "abcdef", poison="adf")
    assert (sorted(done), sorted(lost)) == (list("bce"), list("adf"))


def test_a_worker_that_died_by_chance_costs_nothing() -> None:
    watch = InFlight()
    watch.begin("segment", ["a", "b"])  # begun, never ended
    done, lost, deaths = until_done(watch, "abc", poison="")
    assert (sorted(done), lost, deaths) == (list("abc"), [], 0)
    assert watch.strikes("segment", list("abc")) == [0, 0, 0]


def test_stages_do_not_share_strikes() -> None:
    watch = InFlight()
    watch.begin("segment", ["a"])
    assert watch.strikes("refine", ["a"]) == [0]


def test_totals_by_stage_and_what_waits_between_them() -> None:
    watch = InFlight()
    watch.end("fetch", ["a", "b", "c"], 0.5)
    for keys, seconds in ((["a", "b"], 2.0), (["c"], 1.0)):
        watch.begin("segment", keys)
        watch.end("segment", keys, seconds)
    watch.begin("refine", ["a"])
    assert watch.totals().waiting == 2
    watch.end("refine", ["a"], 4.0)
    watch.count(["a", "b"], failed=1, kept=5)  # b failed while it was decoded, and was not refined
    totals = watch.totals()
    assert (totals.waiting, totals.finished, totals.failed, totals.kept) == (1, 2, 1, 5)
    assert totals.images == {"fetch": 3, "segment": 3, "refine": 1}
    assert totals.seconds == {"fetch": 0.5, "segment": 3.0, "refine": 4.0}


def test_an_image_done_again_waits_once() -> None:
    watch = InFlight()
    for _ in range(2):
        watch.end("segment", ["a"], 1.0)
    watch.begin("refine", ["a"])
    assert watch.totals().waiting == 0
