"""The compiled network: two compilations for pictures of all sizes, the network's own logits, and the way back."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from pipeline import models
from pipeline.models import compiled
from pipeline.models.compiled import Compiled
from pipeline.models.heads.decoder import _twice

Backend = Callable[[GraphModule, list[Any]], Callable[..., Any]]
ALONE_AND_SEVERAL = 2


def compile_by(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> list[GraphModule]:
    """Compile from the first pass on; returns the graphs that the compiler is given."""
    graphs: list[GraphModule] = []

    def keep(graph: GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        graphs.append(graph)
        return backend(graph, inputs)

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep))
    monkeypatch.setattr(compiled, "EAGER_PASSES", 0)
    return graphs


def as_it_is(graph: GraphModule, _: list[Any]) -> Callable[..., Any]:
    return graph.forward


@pytest.mark.slow
def test_a_thousand_sizes_take_two_compilations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the light network, whose grids of five strides must fit each other at every size."""
    graphs = compile_by(lambda _graph, _inputs: lambda *_: (torch.empty(0),), monkeypatch)
    with torch.device("meta"):
        model = models.build("light", ["a", "b", "c"]).eval()
    step = model.card.architecture.step
    random = np.random.default_rng(0)
    sizes = {tuple(pair) for pair in random.integers(1, 66, (1300, 2)).tolist()}
    network = Compiled(model.grid)
    with torch.inference_mode():
        for rows, columns in list(sizes)[:1000]:
            batch = torch.empty(int(random.integers(1, 5)), 3, rows * step + 1, columns * step + 1, device="meta")
            network(batch.contiguous(memory_format=torch.channels_last))
    assert len(sizes) > 1000
    assert len(graphs) == ALONE_AND_SEVERAL


def test_compiled_it_is_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = compile_by(as_it_is, monkeypatch)
    torch.manual_seed(0)
    coarse, fine = nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def plain(x: Tensor) -> Tensor:
        return _twice(coarse(x)) + fine(x)

    network = Compiled(plain)
    for count, height, width in ((1, 41, 33), (3, 33, 33), (2, 65, 9), (1, 1, 17)):
        batch = torch.randn(count, 3, height, width)
        with torch.inference_mode():
            torch.testing.assert_close(network(batch), plain(batch))
    assert len(graphs) == ALONE_AND_SEVERAL


def test_the_first_passes_run_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small run is over before a compilation would be."""
    graphs = compile_by(as_it_is, monkeypatch)
    monkeypatch.setattr(compiled, "EAGER_PASSES", 3)
    network = Compiled(torch.relu)
    counts = []
    for _ in range(5):
        network(torch.ones(2, 3, 5, 5))
        counts.append(len(graphs))
    assert counts == [0, 0, 0, 1, 1]


def test_without_a_compiler_the_network_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(_graph: GraphModule, _inputs: list[Any]) -> Callable[..., Any]:
        raise FileNotFoundError("no C compiler found")

    tried = compile_by(no_compiler, monkeypatch)
    network = Compiled(torch.relu)
    with caplog.at_level(logging.WARNING, "pipeline"):
        for size in (5, 7):
            assert torch.equal(network(torch.full((2, 3, size, size), -1.0)), torch.zeros(2, 3, size, size))
    assert len(tried) == 1
    [said] = [record.getMessage() for record in caplog.records if record.name.startswith("pipeline")]
    assert "uncompiled" in said
    assert "no C compiler found" in said
    assert "\n" not in said


def test_want_of_memory_is_no_fault_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The passes are halved then."""

    def small(graph: GraphModule, _: list[Any]) -> Callable[..., Any]:
        def run(*inputs: Any) -> Any:
            if next(x for x in inputs if isinstance(x, Tensor)).shape[0] > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return graph.forward(*inputs)

        return run

    compile_by(small, monkeypatch)
    network = Compiled(torch.relu)
    with pytest.raises(torch.OutOfMemoryError):
        network(torch.ones(4, 3, 5, 5))
    assert network(torch.ones(2, 3, 5, 5)).shape == (2, 3, 5, 5)
