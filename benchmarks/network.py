"""How fast is a network on this machine's CPU, and what makes it so? `python -m benchmarks.network`.

Prints one table: milliseconds of a pass over one picture, on one thread, with the network as its file holds it and made
ready to predict step by step; medians over rounds in which all take turns, after a first round. Beside them stand the
ratio to what is in use, round by round, on how many grid points the best class is that of float32, and the seconds of
the first round, a compilation's among them.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.crf_pictures import photographs, resized
from benchmarks.table import markdown, number, spread
from pipeline import models
from pipeline.cli import parse
from pipeline.errors import ConfigError, PipelineError
from pipeline.models.preprocessing import pad
from pipeline.models.ready import folded, ready

CPU = torch.device("cpu")
COLUMNS = ("network", "ms, median", "min", "max", "times that in use", "min", "max", "class as in float32", "first, s")
IN_USE = "folded, weights in bfloat16"

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class NetworkBenchmark:
    """Measure a network on one CPU core.

    Args:
        model: a name or the URI of a file.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        rounds: in which each variant runs once, after a first round.
        compiled: also folded networks by torch.compile, for this size alone; it needs a C++ compiler.
    """

    model: str = "scenes"
    height: int = 360
    width: int = 480
    rounds: int = 10
    compiled: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if min(self.rounds, self.height, self.width) < 1:
            raise ConfigError(f"rounds {self.rounds}, height {self.height} and width {self.width} must be at least 1")


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(NetworkBenchmark, "Milliseconds of a network on a CPU core.", argv)
        torch.set_num_threads(1)
        print(f"model {config.model}, {config.height}x{config.width} pixels, {config.rounds} rounds\n")
        print(markdown(COLUMNS, measure(config)))
    except PipelineError as error:
        print(f"network: {error}", file=sys.stderr)
        return 1
    return 0


@torch.inference_mode()
def measure(config: NetworkBenchmark) -> list[tuple[str, ...]]:
    """Measure a row for each variant."""
    model = models.load(config.model)
    if not isinstance(model, models.SegmentationModel):
        raise ConfigError(f"{config.model} is a network of another framework, which is not folded")
    image = resized(photographs()["china"], config.height, config.width)
    batch = pad(model.preprocess(image), model.stride)[None].contiguous(memory_format=torch.channels_last)
    networks = variants(model)
    if config.compiled:
        networks |= {f"{name}, compiled": torch.compile(networks[name]) for name in ("folded", IN_USE)}
    best, first = {}, {}
    for name, network in networks.items():
        started = time.perf_counter()
        best[name] = network(batch).argmax(dim=1)
        first[name] = time.perf_counter() - started
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(config.rounds):
        for name, network in networks.items():
            started = time.perf_counter()
            network(batch)
            times[name].append(1e3 * (time.perf_counter() - started))
    right = best["as stored"]
    return [
        (
            name,
            *spread(measured),
            *spread([mine / used for mine, used in zip(measured, times[IN_USE], strict=True)]),
            f"{(best[name] == right).float().mean():.2%}",
            number(first[name]),
        )
        for name, measured in times.items()
    ]


def variants(model: models.SegmentationModel) -> dict[str, Network]:
    """Give the network as stored, and what makes it faster step by step; the last is what a Predictor runs."""
    stored = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    light = folded(stored)
    in_bfloat16 = ready(stored, CPU, torch.bfloat16)
    return {
        "as stored": stored,
        "folded": light,
        "as stored, bfloat16 by autocast": partial(autocast, stored),
        "folded, bfloat16 by autocast": partial(autocast, light),
        IN_USE: lambda batch: in_bfloat16(batch.bfloat16()),
    }


def autocast(network: Network, batch: Tensor) -> Tensor:
    """Run a network whose weights are float32, with its convolutions in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        return network(batch)


if __name__ == "__main__":
    sys.exit(main())
