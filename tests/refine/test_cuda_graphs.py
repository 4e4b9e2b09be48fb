"""Launches that come again become CUDA graphs, and device memory stays in its place; on stand-ins where no GPU is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from pipeline.refine.crf.cuda.buffers import Buffers
from pipeline.refine.crf.cuda.graphs import CAPTURED_WHEN_SEEN, MOST, Graphs


class Recorded:
    """A graph that does again what was done while it was captured."""

    def __init__(self) -> None:
        self.replayed = 0

    def replay(self) -> None:
        self.replayed += 1


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """The graphs that are captured."""
    captured: list[Recorded] = []

    @contextmanager
    def capture(graph: Recorded, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        captured.append(graph)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorded)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    return captured


def counted(counts: list[int], number: int) -> Callable[[], None]:
    return lambda: counts.append(number)


def test_launches_that_are_seen_often_are_captured_once_and_replayed(graphs: list[Recorded]) -> None:
    runs, launched = Graphs(torch.device("cuda")), []
    for _ in range(CAPTURED_WHEN_SEEN + 4):
        runs.run(("size", 21), counted(launched, 0))
    assert len(launched) == CAPTURED_WHEN_SEEN  # the last of them while it was captured
    assert [graph.replayed for graph in graphs] == [5]
    runs.run(("size", 8), counted(launched, 1))
    assert launched[-1] == 1


def test_what_was_seen_longest_ago_is_forgotten(graphs: list[Recorded]) -> None:
    runs, launched = Graphs(torch.device("cuda")), []
    for number in [*range(MOST + 1), 0, MOST, MOST]:
        runs.run(number, counted(launched, number))
    assert len(launched) == MOST + 4  # 0 was new again, and MOST is captured when it comes for the third time
    assert len(graphs) == 1


def test_a_device_without_graphs_launches_all(graphs: list[Recorded]) -> None:
    runs, launched = Graphs(torch.device("cpu")), []
    for _ in range(9):
        runs.run(0, counted(launched, 0))
    assert (len(launched), graphs) == (9, [])


def test_a_buffer_stays_where_it_is_until_a_larger_one_is_asked_for() -> None:
    buffers = Buffers(torch.device("cpu"))
    large = buffers.take("rows", (5, 8), torch.uint16)
    small = buffers.take("rows", (3, 2), torch.float32)
    assert (small.shape, small.dtype, small.data_ptr()) == ((3, 2), torch.float32, large.data_ptr())
    assert buffers.take("others", (5, 8), torch.uint16).data_ptr() != large.data_ptr()
    larger = buffers.take("rows", (6, 8), torch.uint16)
    assert buffers.take("rows", (5, 8), torch.uint16).data_ptr() == larger.data_ptr()
