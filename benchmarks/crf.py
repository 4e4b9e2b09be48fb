"""How fast is the dense CRF on a CPU core? `python -m benchmarks.crf`.

Prints four tables. First, for six photographs at 500x375 with 21 labels, and for the released parameters and a smoother
kernel: how sure the network is, the mean of the largest probability; milliseconds of a whole call with pydensecrf, with
every label and pixel worked out, and with the default settings; how many times as fast that is, also against pydensecrf
given only the labels that the default settings keep; and on how many pixels the labels are pydensecrf's. All are
processor time of one thread: medians over interleaved repetitions after a first one. Then how the time grows with the
picture and with the labels; what two processes do side by side; and memory and the first call, each in a process of its
own.

The pictures are of scikit-image and scikit-learn (the test extra brings them). The logits of the first table are those
of a network that was trained for 21 labels, where its file is given (voc_network.py says which), and otherwise made of
a network's with fewer labels (crf_pictures.py).
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import median

import dense_crf_core
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.crf_pictures import HEIGHT, SETTINGS, STRIDE, WIDTH, network_logits, photographs, resized
from benchmarks.table import markdown, number
from benchmarks.voc_network import STRIDE as VOC_STRIDE
from benchmarks.voc_network import VocNetwork
from pipeline import models
from pipeline.cli import parse
from pipeline.errors import ConfigError, PipelineError
from pipeline.geometry import aligned
from pipeline.logits import softmax, upsample
from pipeline.models import Inference, Predictor
from pipeline.refine.crf import CRFParams, DenseCRF

SPEED = (
    *("picture, sa/sb/w1", "sure", "labels kept", "pydensecrf", "all", "ratio", "default", "ratio"),
    *("ratio, kept labels", "all: same pixels", "default: same pixels"),
)
GROWTH = ("picture, labels", "pydensecrf, ms", "all, ms", "ratio", "default, ms", "ratio")
MEMORY = (
    *("picture, sa/sb/w1", "vertices a pixel", "bytes a pixel", "allowed: 300 + 8 a label and vertex"),
    *("first call, ms", "later, ms"),
)
SIZES = ((274, 365), (866, 1155), (1937, 2582), (3873, 5164))  # 0.1, 1, 5 and 20 megapixels
LABELS = (2, 11, 21, 64, 182)

Logits = NDArray[np.float16]
Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class CrfBenchmark:
    """Measure the dense CRF on a CPU core.

    Args:
        voc_network: file of a network with 21 labels, for the first table; see voc_network.py.
        model: whose logits are refined otherwise; a name or the URI of a file.
        labels: of the first table, where the logits are the model's.
        repetitions: of each measurement of the first table.
        growth: also how the time grows, two processes, and memory.
    """

    voc_network: str | None = None
    model: str = "scenes"
    labels: int = 21
    repetitions: int = 5
    growth: bool = True

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if self.repetitions < 1 or not 1 <= self.labels <= dense_crf_core.MAX_LABELS:
            raise ConfigError(f"repetitions {self.repetitions} and labels {self.labels} must be at least 1")


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(CrfBenchmark, "Milliseconds of the dense CRF on a CPU core.", argv)
        torch.set_num_threads(1)
        predictor = Predictor(models.load(config.model), Inference())
        print(f"vector instructions: {dense_crf_core.instruction_sets()[0]}; times in ms of one thread\n")
        if config.voc_network:
            network, stride = VocNetwork(config.voc_network).logits, VOC_STRIDE
        else:
            network, stride = partial(network_logits, predictor, labels=config.labels), STRIDE
        print(markdown(SPEED, list(speed(network, stride, config))), flush=True)
        if config.growth:
            print(f"\n{markdown(GROWTH, list(growth(predictor)))}\n\n{side_by_side(predictor)}\n", flush=True)
            print(markdown(MEMORY, list(memory())))
    except PipelineError as error:
        print(f"crf: {error}", file=sys.stderr)
        return 1
    return 0


def speed(network: Callable[[Image], Logits], stride: int, config: CrfBenchmark) -> Iterator[tuple[str, ...]]:
    """Measure a row for each setting and photograph, of which `network` gives the logits at every `stride`th pixel."""
    for setting, params in SETTINGS.items():
        for name, image in photographs().items():
            logits = network(image)
            probabilities = softmax(upsample(logits, HEIGHT, WIDTH, aligned(stride)))
            peaks = probabilities.max(axis=(1, 2))
            kept = probabilities[peaks >= 0.01]
            reference, every, default = DenseCRF(params, "pydensecrf"), DenseCRF(params, prune=0), DenseCRF(params)
            calls: list[Callable[[], object]] = [
                partial(reference, image, probabilities),
                partial(every, image, probabilities),
                partial(default.label, image, logits, aligned(stride)),
                partial(reference, image, kept),
            ]
            whole, all_, fast, given = interleaved(calls, config.repetitions)
            right = reference(image, probabilities).argmax(axis=0)
            yield (
                f"{name}, {setting}",
                f"{probabilities.max(axis=0).mean():.2f}",
                str(len(kept)),
                *(number(whole), number(all_), f"{whole / all_:.1f}", number(fast), f"{whole / fast:.1f}"),
                f"{given / fast:.1f}",
                f"{np.mean(every(image, probabilities).argmax(axis=0) == right):.4%}",
                f"{np.mean(default.label(image, logits, aligned(stride))[0] == right):.4%}",
            )


def interleaved(calls: Sequence[Callable[[], object]], repetitions: int) -> list[float]:
    """Measure each call's median milliseconds of this thread, taken in turns after a first one."""
    times: list[list[float]] = [[] for _ in calls]
    for repetition in range(repetitions + 1):
        for call, measured in zip(calls, times, strict=True):
            started = time.thread_time()
            call()
            if repetition:
                measured.append((time.thread_time() - started) * 1e3)
    return [median(measured) for measured in times]


def growth(predictor: Predictor) -> Iterator[tuple[str, ...]]:
    """Measure rows for pictures of 0.1 to 20 megapixels with 21 labels, in tiles beyond 1, and for 2 to 182 labels."""
    params = CRFParams()
    for height, width in SIZES:
        image = resized(photographs()["astronaut"], height, width)
        yield growth_row(
            f"{height * width / 1e6:.1f} megapixels, 21", image, network_logits(predictor, image, 21), params
        )
    image = photographs()["astronaut"]
    for labels in LABELS:
        logits = network_logits(predictor, image, labels)
        yield growth_row(f"{HEIGHT * WIDTH / 1e6:.2f} megapixels, {labels}", image, logits, params)


def growth_row(name: str, image: Image, logits: Logits, params: CRFParams) -> tuple[str, ...]:
    """Measure one call of each; pydensecrf only up to 1 megapixel."""
    small = image.size <= 3.1e6
    crfs = [DenseCRF(params, prune=0), DenseCRF(params), *([DenseCRF(params, "pydensecrf")] if small else [])]
    times = []
    for crf in crfs:
        started = time.thread_time()
        crf.refine([image], [logits], aligned(STRIDE))
        times.append((time.thread_time() - started) * 1e3)
    every, default, *rest = times
    return (
        name,
        *((number(rest[0]), number(every), f"{rest[0] / every:.1f}") if rest else ("", number(every), "")),
        *((number(default), f"{rest[0] / default:.1f}") if rest else (number(default), "")),
    )


def side_by_side(predictor: Predictor) -> str:
    """Say in a sentence how much more two processes refine than one."""
    image = photographs()["astronaut"]
    logits = network_logits(predictor, image, 21)
    with ProcessPoolExecutor(2) as processes:
        list(processes.map(repeat_refine, [1, 1], [image] * 2, [logits] * 2))
        [alone] = processes.map(repeat_refine, [8], [image], [logits])
        together = list(processes.map(repeat_refine, [8, 8], [image] * 2, [logits] * 2))
    return f"two processes refine {2 * alone / max(together):.2f} times as many pictures a second as one"


def repeat_refine(times: int, image: Image, logits: Logits) -> float:
    """Measure the seconds of so many refinements."""
    crf = DenseCRF()
    crf.label(image, logits, aligned(STRIDE))
    started = time.perf_counter()
    for _ in range(times):
        crf.label(image, logits, aligned(STRIDE))
    return time.perf_counter() - started


def memory() -> Iterator[tuple[str, ...]]:
    """Measure a row for each setting, in a process of its own, by `python -m benchmarks.crf_memory SETTING`."""
    for setting in SETTINGS:
        command = [sys.executable, "-m", "benchmarks.crf_memory", setting]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        yield (f"astronaut, {setting}", *done.stdout.split())


if __name__ == "__main__":
    sys.exit(main())
