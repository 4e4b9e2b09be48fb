"""How fast the networks are as stored, folded and compiled, and what share of the device's ceiling that is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.on_gpu.clock import milliseconds, peak_mebibytes
from benchmarks.on_gpu.figures import Figure, Parity
from pipeline import models
from pipeline.models.preprocessing import pad
from pipeline.models.ready import folded

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Load:
    """Say what is measured: networks by their short names, a picture's side, and how many go through together."""

    names: tuple[str, ...] = ("resnet101-aspp", "deeplabv3-resnet101", "light")
    classes: int = 21
    side: int = 513
    batch: int = 32
    repetitions: int = 20


TINY = Load(names=("light",), classes=3, side=33, batch=2, repetitions=2)


@torch.inference_mode()
def parity(image: NDArray[np.uint8], device: torch.device) -> Iterator[Parity]:
    """Compare what a trained network answers on the device, in each variant, with float32 on a CPU."""
    model = models.load("scenes")
    assert isinstance(model, models.SegmentationModel)
    batch = pad(model.preprocess(image), model.stride)[None]
    right = model(batch).argmax(dim=1)
    for variant, network in _variants(model.to(device)):
        same = float((network(batch.to(device)).argmax(dim=1).cpu() == right).float().mean())
        yield Parity(what=f"network, {variant}: best class as in float32 on a CPU", same=same, asked=0.98)


@torch.inference_mode()
def measure(load: Load, device: torch.device, teraflops: float) -> Iterator[Figure]:
    """Measure the images a second of each network, of random weights, step by step to what the pipeline runs."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (load.batch, 3, load.side, load.side)
    batches = [50 * torch.randn(shape, device=device, generator=generator) for _ in range(3)]  # larger than a cache
    batches = [batch.contiguous(memory_format=torch.channels_last) for batch in batches]
    for name in load.names:
        stored = models.build(name, tuple(f"class_{number}" for number in range(load.classes))).eval().to(device)
        stored.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with FlopCounterMode(display=False) as counter:
            stored(batches[0][:1])
        teraflop = counter.get_total_flops() / 1e12  # of a picture
        for variant, network in _variants(stored):
            peak_mebibytes(device)
            times = milliseconds(partial(_pass, network, batches), device, load.repetitions)
            figure = Figure(
                what=f"{name}, {load.side}x{load.side}, {variant}",
                values=[1e3 * load.batch / time for time in times],
                unit="images/s",
                mebibytes=peak_mebibytes(device),
            )
            yield replace(figure, share=figure.median * teraflop / teraflops)


def _variants(stored: models.SegmentationModel) -> Iterator[tuple[str, Network]]:
    """Give the network as training leaves it, then with what makes it ready to predict, step by step."""
    yield "as stored, by autocast", partial(_autocast, stored)
    light = folded(stored).bfloat16()
    light.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    yield "folded, bfloat16 weights", lambda batch: light(batch.bfloat16())
    compiled = torch.compile(light, dynamic=True)
    yield "compiled for all sizes", lambda batch: compiled(batch.bfloat16())


def _autocast(network: Network, batch: Tensor) -> Tensor:
    with torch.autocast(batch.device.type, torch.bfloat16):
        return network(batch)


def _pass(network: Network, batches: list[Tensor], number: int) -> Tensor:
    return network(batches[number % len(batches)])
