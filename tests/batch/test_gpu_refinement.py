"""Refinement beside the network on one GPU has a stream of its own; on stand-ins where no GPU is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import pytest
import torch

from pipeline.batch.gpu_refinement import Computed, GpuRefinement, Made, Uploaded
from pipeline.geometry import Geometry, aligned
from pipeline.models.transfer import OnDevice, transfer_to
from pipeline.refine import GpuRefiner, Refinement
from pipeline.refine.crf import CRFParams
from pipeline.refine.crf.cuda import CudaCRF
from tests.helpers.photographs import logits_for, picture

CLASSES, PALETTE = ("a", "b", "c"), np.zeros((3, 3), np.uint8)
MADE = cast(Refinement, "a mask")


class Stream:
    """Stands for a CUDA stream; `current` is the one that work is launched on."""

    current: "list[Stream]"

    def __init__(self, device: torch.device, priority: int) -> None:
        assert device.type == "cuda"
        self.goes_first = priority < 0


class Tensor:
    """Stands for a tensor on a GPU, and for the event after which it is there."""

    device = torch.device("cuda")

    def __init__(self) -> None:
        self.is_there, self.kept_for = False, list[Stream]()

    def synchronize(self) -> None:
        self.is_there = True

    def record_stream(self, stream: Stream) -> None:
        self.kept_for.append(stream)

    def on_device(self) -> OnDevice:
        return OnDevice(cast(torch.Tensor, self), cast(torch.cuda.Event, self))


class Watched(GpuRefiner):
    """Notes on which stream it works; what it is given is there, and is kept until the stream is done."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []

    def open(self) -> None:
        pass

    def refine(self, images: Sequence[Any], logits: Sequence[Any], geometry: Geometry) -> list[Refinement]:
        [stream] = Stream.current
        assert all(given.is_there and given.kept_for == [stream] for given in (*images, *logits))
        self.streams.append(stream)
        return [MADE for _ in images]

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def memory(self, labels: int) -> int:
        return 0


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def launching_on(stream: Stream) -> Iterator[None]:
        Stream.current.append(stream)
        yield
        Stream.current.remove(stream)

    monkeypatch.setattr(Stream, "current", [], raising=False)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", launching_on)


def test_it_works_on_one_stream_of_its_own_that_goes_first(streams: None) -> None:
    refiner = Watched()
    refinement = GpuRefinement(refiner, CLASSES, PALETTE, aligned(8))
    host = picture(height=14, width=19)
    for _ in range(2):
        group = [Computed(Uploaded(host, Tensor().on_device()), Tensor().on_device()) for _ in range(2)]
        made = refinement.refine(group)
        assert [cast(Made, one).refinement for one in made] == [MADE, MADE]
    first, second = refiner.streams
    assert first is second
    assert first.goes_first
    assert Stream.current == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_it_does_not_wait_for_passes_that_the_network_has_begun() -> None:
    device, image = torch.device("cuda"), picture(height=140, width=190)
    transfer, crf = transfer_to(device), CudaCRF(CRFParams(), 1e-2)
    refinement = GpuRefinement(crf, CLASSES, PALETTE, aligned(8))
    [seen] = transfer.upload([image])
    [logits] = transfer.leaving([torch.tensor(logits_for(image, 3), device=device)])
    computed = [Computed(Uploaded(image, seen), logits)]
    refinement.refine(computed)  # kernels are compiled, and memory is taken
    torch.cuda._sleep(10**10)  # some seconds
    [passes] = transfer.leaving([torch.empty(0, device=device)])
    [made] = refinement.refine(computed)
    assert passes.ready is not None
    assert not passes.ready.query()
    [expected] = CudaCRF(CRFParams(), 1e-2).refine([image], [logits_for(image, 3)], aligned(8))
    np.testing.assert_array_equal(cast(Made, made).refinement.mask, expected.mask)
