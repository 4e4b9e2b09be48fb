"""Milliseconds of the dense CRF by number of labels, build and iterations apart, against PyTorch's own operators."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.on_gpu.clock import milliseconds, peak_mebibytes
from benchmarks.on_gpu.figures import Figure, Parity
from benchmarks.on_gpu.pictures import made_up_logits
from benchmarks.torch_crf import TorchCRF
from pipeline.geometry import aligned
from pipeline.refine.crf import CRFParams
from pipeline.refine.crf.cuda.mean_field import MeanField
from pipeline.refine.crf.cuda.refiner import CudaCRF
from pipeline.refine.crf.cuda.window import Window, windows
from pipeline.refine.refinement import Refinement

RELEASED = CRFParams()
SMOOTHER = CRFParams(gaussian_xy=3, bilateral_xy=80, bilateral_rgb=13, bilateral_weight=10)
STRIDE = 8

Images = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class CRFLoad:
    """Say what is measured: by how many labels, all of them alive, how often, and with how many mean-field updates."""

    labels: tuple[int, ...] = (4, 8, 16, 21, 64)
    repetitions: int = 30
    warm_up: int = 2
    iterations: int = 10


TINY = CRFLoad(labels=(4,), repetitions=1, warm_up=0, iterations=1)


@torch.inference_mode()
def parity(images: Images, load: CRFLoad, device: torch.device) -> Iterator[Parity]:
    """Compare the masks of 21 labels with those of PyTorch's operators, in float32, and two runs with each other."""
    for name, released in (("67/3/4", RELEASED), ("80/13/10", SMOOTHER)):
        params = replace(released, iterations=load.iterations)
        logits = [made_up_logits(image, 21, STRIDE, seed) for seed, image in enumerate(images)]
        crf = CudaCRF(params, 0.01, str(device))
        first, second = (crf.refine(images, logits, aligned(STRIDE)) for _ in range(2))
        right = [
            TorchCRF(params, device).refine(torch.tensor(image)[None], grid[None], STRIDE, 0.01).masks[0].cpu().numpy()
            for image, grid in zip(images, logits, strict=True)
        ]
        same = min(float((one.mask == mask).mean()) for one, mask in zip(first, right, strict=True))
        yield Parity(what=f"CRF {name}: labels as by PyTorch's operators", same=same, asked=0.9999)
        equal = [_equal(one, other) for one, other in zip(first, second, strict=True)]
        yield Parity(what=f"CRF {name}: two runs give the same bits", same=float(np.mean(equal)), asked=1.0)


@torch.inference_mode()
def measure(images: Images, load: CRFLoad, device: torch.device) -> Iterator[Figure]:
    """Measure pictures of one size in turn, one at a time, for each number of labels."""
    for labels in load.labels:
        yield from _kernels(images, labels, RELEASED, load, device)
        yield _operators(images, labels, load, device)
    yield from _kernels(images, 21 if 21 in load.labels else load.labels[0], SMOOTHER, load, device)


def _kernels(images: Images, labels: int, released: CRFParams, load: CRFLoad, device: torch.device) -> Iterator[Figure]:
    params = replace(released, iterations=load.iterations)
    name = _name(params, images[0], labels)
    uploaded = [torch.tensor(image).to(device) for image in images]
    logits = [made_up_logits(image, labels, STRIDE, seed).to(device) for seed, image in enumerate(images)]
    crf = CudaCRF(params, 0, str(device))

    def whole(number: int) -> list[Refinement]:
        first = number % len(images)  # four at a time, so that what one leaves idle the next can use
        batch = slice(first, first + 4)
        return crf.refine((uploaded * 2)[batch], (logits * 2)[batch], aligned(STRIDE))

    peak_mebibytes(device)
    times = [time / min(4, 2 * len(images)) for time in milliseconds(whole, device, load.repetitions, load.warm_up)]
    yield Figure(what=f"{name}, whole", values=times, unit="ms/image", mebibytes=peak_mebibytes(device))
    cut = [_whole_window(image, grid) for image, grid in zip(uploaded, logits, strict=True)]
    field = MeanField(params, device)
    times = milliseconds(lambda number: field.build(cut[number % len(cut)]), device, load.repetitions, load.warm_up)
    yield Figure(what=f"{name}, lattices", values=times, unit="ms/image")
    lattices, core = field.build(cut[0]), torch.empty((2, *images[0].shape[:2]), dtype=torch.uint8, device=device)
    times = milliseconds(
        lambda _: field.iterate(cut[0], lattices, range(labels), core), device, load.repetitions, load.warm_up
    )
    yield Figure(what=f"{name}, {params.iterations} updates", values=times, unit="ms/image")


def _operators(images: Images, labels: int, load: CRFLoad, device: torch.device) -> Figure:
    """Measure PyTorch's own operators, by embedding_bag, on all pictures as one batch."""
    params = replace(RELEASED, iterations=load.iterations)
    batch = torch.from_numpy(np.stack(images)).to(device)
    logits = torch.stack([made_up_logits(image, labels, STRIDE, seed) for seed, image in enumerate(images)]).to(device)
    crf = TorchCRF(params, device)
    peak_mebibytes(device)
    times = milliseconds(
        lambda _: crf.refine(batch, logits, STRIDE, 0), device, min(5, load.repetitions), warm_up=load.warm_up
    )
    return Figure(
        what=f"{_name(params, images[0], labels)}, by PyTorch's operators",
        values=[time / len(images) for time in times],
        unit="ms/image",
        mebibytes=peak_mebibytes(device),
    )


def _whole_window(image: Tensor, logits: Tensor) -> Window:
    tile = max(image.shape[:2])
    [window] = windows(image, logits, aligned(STRIDE), tile, 0)
    return window


def _name(params: CRFParams, image: NDArray[np.uint8], labels: int) -> str:
    height, width = image.shape[:2]
    setting = f"{params.bilateral_xy:g}/{params.bilateral_rgb:g}/{params.bilateral_weight:g}"
    return f"CRF {setting}, {width}x{height}, {labels} labels"


def _equal(one: Refinement, other: Refinement) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Refinement))
