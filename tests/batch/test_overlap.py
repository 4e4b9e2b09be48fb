"""Steps overlap: all are at work at once, on different items, and the time is that of the slowest."""

import threading
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest
import torch

from pipeline.batch import segment_stage
from pipeline.batch.overlap import Step, in_turn, overlapped
from pipeline.batch.segment_stage import SegmentStage
from pipeline.batch.tracker import LocalTracker
from pipeline.data import rows
from pipeline.logits import grid_size
from pipeline.models.transfer import OnDevice
from tests.helpers.pictures import jpeg, photo

STEPS = 4
PATIENCE = 60.0  # seconds after which a step that waits for another gives up


def test_all_steps_are_at_work_at_once_each_on_another_item() -> None:
    """Step s of item k goes on only when every other step is at work, on items k + s - 0, - 1, - 2 and - 3."""
    items = 10
    meetings = [threading.Barrier(STEPS) for _ in range(items)]

    def step(number: int) -> Step:
        def work(item: int) -> int:
            if STEPS - 1 <= item + number < items:
                meetings[item + number].wait(PATIENCE)
            return item

        return work

    assert list(overlapped(range(items), [step(n) for n in range(STEPS)], lambda _: 1, STEPS)) == list(range(items))


def test_each_step_sees_the_items_in_order_and_gives_to_the_next() -> None:
    seen: list[list[int]] = [[], []]

    def first(item: int) -> int:
        time.sleep(0.01 * (item % 3))
        seen[0].append(item)
        return item * 10

    def second(value: int) -> int:
        seen[1].append(value)
        return value + 1

    expected = [10 * item + 1 for item in range(9)]
    assert list(overlapped(range(9), [first, second], lambda _: 1, 3)) == expected
    assert seen == [list(range(9)), [10 * item for item in range(9)]]
    assert list(in_turn(range(9), [first, second])) == expected


def test_what_is_under_way_weighs_no_more_than_allowed() -> None:
    weights = [3, 3, 5, 2, 20, 1, 4, 4, 4, 9]
    under_way, most = [], []

    def taken() -> Iterator[int]:
        for place, weight in enumerate(weights):
            yield place
            under_way.append(weight)  # runs when the next is asked for

    def step(place: int) -> int:
        return place

    for place in overlapped(taken(), [step, step], weights.__getitem__, 10):
        most.append(sum(under_way))
        under_way.remove(weights[place])
    assert max(most) <= 20  # the one that is heavier goes by itself
    assert [total for total in most if total > 10] == [20]


def test_an_error_is_raised_at_its_place_and_nothing_is_left_at_work() -> None:
    def fails(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    before = threading.active_count()
    done = []
    with pytest.raises(ValueError, match="three"):
        for item in overlapped(range(9), [fails, fails], lambda _: 1, 4):
            done.append(item)
    assert done == [0, 1, 2]
    assert threading.active_count() == before


def test_who_stops_early_leaves_nothing_at_work() -> None:
    before = threading.active_count()
    some = overlapped(iter(int, 1), [lambda item: item] * 2, lambda _: 1, 4)
    assert next(some) == 0
    some.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


class SlowDevice:
    """A device that takes its time for each step of a group, and notes when each began and ended."""

    overlaps = True
    pass_pixels = 4 * 40 * 50

    def __init__(self) -> None:
        self.spans: dict[str, list[tuple[float, float]]] = {name: [] for name in ("upload", "compute", "download")}

    def upload(self, pictures):
        return self._slowly("upload", 0.02, pictures)

    def compute(self, pictures):
        shapes = [tuple(grid_size(side, 8) for side in picture.shape[:2]) for picture in pictures]
        return self._slowly(
            "compute", 0.06, [OnDevice(torch.zeros((3, *shape), dtype=torch.float16)) for shape in shapes]
        )

    def download(self, grids):
        return self._slowly("download", 0.04, [grid.tensor.numpy() for grid in grids])

    def _slowly(self, name, seconds, result):
        began = time.monotonic()
        time.sleep(seconds)
        self.spans[name].append((began, time.monotonic()))
        return result


def test_a_stage_beside_a_slow_device_takes_the_time_of_the_slowest_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_stage, "MAX_DECODED_PIXELS", 4 * SlowDevice.pass_pixels)
    encoded = [jpeg(photo(seed, 40, 50)) for seed in range(48)]
    table = rows.table(
        [{"key": f"{k:02}", "source": "", "image": data} for k, data in enumerate(encoded)], rows.FETCHED
    )
    device = SlowDevice()
    began = time.monotonic()
    done = pa.concat_tables(SegmentStage(lambda: device, 10_000, LocalTracker())(table))  # type: ignore[arg-type, return-value]
    wall = time.monotonic() - began
    assert done["key"].to_pylist() == table["key"].to_pylist()
    assert done["error"].null_count == len(encoded)
    assert isinstance(done, pa.Table)
    groups = len(device.spans["compute"])
    assert groups == 12
    for k in range(groups - 1):  # the next group is on the device before this one is done there
        assert device.spans["upload"][k + 1][0] < device.spans["compute"][k][1]
    in_turn_it_would_take = sum(end - start for spans in device.spans.values() for start, end in spans)
    assert wall < 0.85 * in_turn_it_would_take
