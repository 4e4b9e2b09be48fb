"""How fast is the dense CRF on a GPU? `python -m benchmarks.crf_cuda`.

Prints one table: for the released parameters and for a smoother kernel, and for each number of pictures in a batch, the
milliseconds an image takes from logits to mask, median and range of whole calls after a first one; how much of it goes
before the mean-field updates, mostly to build the lattices, and how much to them; and the device's peak memory. Then,
for each setting, on how many pixels the masks are pydensecrf's, and whether two runs gave the same bits.

The pictures are six photographs of scikit-image and scikit-learn (the test extra brings them) at 500x375. The logits
are made up of brightness and noise: 21 labels at stride 8. Without a CUDA device nothing is measured: exit code 2.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.crf_pictures import HEIGHT, SETTINGS, STRIDE, WIDTH, photographs
from benchmarks.table import markdown, number
from benchmarks.torch_crf import TorchCRF
from pipeline.cli import parse
from pipeline.errors import ConfigError, PipelineError
from pipeline.geometry import aligned
from pipeline.logits import grid_size
from pipeline.refine.crf import CRFParams, DenseCRF

HEADER = ("sa/sb/w1", "batch", "ms an image", "before the updates", "10 updates", "vertices a pixel", "MiB at the peak")
LABELS = 21


@dataclass(frozen=True, kw_only=True)
class CudaBenchmark:
    """Measure the dense CRF on the first CUDA device.

    Args:
        batches: numbers of pictures in a batch; each is measured by itself.
        repetitions: of each measurement.
        prune: labels whose probability is nowhere above it are left out; 0 keeps all 21.
    """

    batches: tuple[int, ...] = (1, 4, 16, 64)
    repetitions: int = 9
    prune: float = 0.01

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if not self.batches or min(self.batches) < 1 or self.repetitions < 1:
            raise ConfigError(f"batches {list(self.batches)} and repetitions {self.repetitions} must be at least 1")


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(CudaBenchmark, "Milliseconds of the dense CRF on a GPU.", argv)
        if not torch.cuda.is_available():
            print("crf_cuda: no CUDA device is there, nothing is measured; run it on a GPU machine", file=sys.stderr)
            return 2
        print(torch.cuda.get_device_name(), f"PyTorch {torch.__version__}", sep=", ")
        print(markdown(HEADER, list(measurements(config, torch.device("cuda")))))
        for name, params in SETTINGS.items():
            print(f"{name}: {agreement(params, torch.device('cuda'), config.prune)}")
    except PipelineError as error:
        print(f"crf_cuda: {error}", file=sys.stderr)
        return 1
    return 0


def measurements(config: CudaBenchmark, device: torch.device) -> Iterator[tuple[str, ...]]:
    """Measure one row of the table for each setting and batch."""
    for name, params in SETTINGS.items():
        for count in config.batches:
            images, logits = (tensor.to(device) for tensor in pictures(count))

            def refine_batch(crf: TorchCRF, images: torch.Tensor = images, logits: torch.Tensor = logits) -> None:
                crf.refine(images, logits, STRIDE, config.prune)

            crf, start = TorchCRF(params, device), TorchCRF(replace(params, iterations=0), device)
            torch.cuda.reset_peak_memory_stats()
            whole = milliseconds(partial(refine_batch, crf), config.repetitions)
            peak = torch.cuda.max_memory_allocated() / 2**20
            before = milliseconds(partial(refine_batch, start), config.repetitions)
            vertices = crf.kernels(images)[-1].vertices / (count * HEIGHT * WIDTH)
            yield (
                name,
                str(count),
                f"{number(median(whole) / count)} [{number(min(whole) / count)}-{number(max(whole) / count)}]",
                number(median(before) / count),
                number((median(whole) - median(before)) / count),
                number(vertices),
                number(peak),
            )


def agreement(params: CRFParams, device: torch.device, prune: float) -> str:
    """Say how the masks compare with pydensecrf's, and whether they are the same every time."""
    images, logits = pictures(len(photographs()))
    crf = TorchCRF(params, device)
    first, second = (crf.refine(images, logits, STRIDE, prune) for _ in range(2))
    same = all(torch.equal(getattr(first, field.name), getattr(second, field.name)) for field in fields(first))
    refined = DenseCRF(params, backend="pydensecrf").refine(list(images.numpy()), list(logits.numpy()), aligned(STRIDE))
    equal = [
        float((refinement.mask == mask).mean())
        for refinement, mask in zip(refined, first.masks.cpu().numpy(), strict=True)
    ]
    bits = "the same bits" if same else "DIFFERENT bits"
    return f"at least {min(equal):.4%} of a mask's pixels are pydensecrf's; two runs gave {bits}"


def milliseconds(work: Callable[[], object], repetitions: int) -> list[float]:
    """Measure the wall time of each call, after one that is not counted."""
    times = []
    for _ in range(repetitions + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - started) * 1e3)
    return times[1:]


def pictures(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make images (count, H, W, 3) uint8, photographs in turn, and noisy logits (count, 21, h, w) float16."""
    photos = list(photographs().values())
    images = [photos[number % len(photos)] for number in range(count)]
    logits = [made_up_logits(image, seed) for seed, image in enumerate(images)]
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(logits))


def made_up_logits(image: NDArray[np.uint8], seed: int) -> NDArray[np.float16]:
    """Make logits (21, h, w): a label for each level of brightness, and noise."""
    shape = (grid_size(HEIGHT, STRIDE), grid_size(WIDTH, STRIDE))
    grey = np.asarray(Image.fromarray(image).convert("L").resize(shape[::-1], Image.Resampling.BOX)) / 255
    levels = np.linspace(grey.min(), grey.max(), LABELS)[:, None, None]
    noise = np.random.default_rng(seed).normal(size=(LABELS, *shape))
    return (-40 * (grey - levels) ** 2 + noise).astype(np.float16)


if __name__ == "__main__":
    sys.exit(main())
