"""How fast are the networks, the dense CRF and the stage around them on a GPU? `python -m benchmarks.gpu`.

First it checks that the device computes what it must: with other results no figure counts, and the exit code is 1.
Then it prints one table: what the device does at best; images a second of the networks, as stored, folded and compiled,
and their share of that; milliseconds of the dense CRF by number of labels; images a second of the stage from encoded
pictures to masks, and the share of the time in which the device is busy. The last line holds all figures as JSON.

It needs PyTorch, Triton, NumPy, Pillow, pyarrow and safetensors, and takes less than five minutes on one GPU. Without a
CUDA device nothing is measured: exit code 2. `--device cpu --tiny` runs all of it on next to no data, with
TRITON_INTERPRET=1 in the environment, to see that it runs; its figures mean nothing.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.on_gpu import ceilings, crf, networks, stage
from benchmarks.on_gpu.figures import HEADER, Figure, Parity
from benchmarks.on_gpu.pictures import pictures
from benchmarks.table import markdown

PARTS = ("networks", "crf", "stage")


def main(argv: Sequence[str] | None = None) -> int:
    """Check, measure and print; returns the exit code."""
    options = _parser().parse_args(argv)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("gpu: no CUDA device is there, nothing is measured; run it on a GPU machine", file=sys.stderr)
        return 2
    if options.tiny:
        torch.compiler.set_stance("force_eager")  # to trace a network takes longer than all the rest
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(name, f"PyTorch {torch.__version__}", sep=", ", flush=True)
    checks = []
    for check in parities(options, device):
        print(check, flush=True)
        checks.append(check)
    if not all(check.holds for check in checks):
        print("gpu: the device computes something else than it must; nothing is measured", file=sys.stderr)
        return 1
    figures = []
    for figure in measured(options, device):
        print(f"{figure.what}: {figure.median:.4g} {figure.unit}", file=sys.stderr, flush=True)
        figures.append(figure)
    print(markdown(HEADER, [figure.cells() for figure in figures]))
    plain = {"device": name, "torch": torch.__version__, "parity": list(map(asdict, checks))}
    print(json.dumps(plain | {"figures": [asdict(figure) | {"median": figure.median} for figure in figures]}))
    return 0


def parities(options: argparse.Namespace, device: torch.device) -> Iterator[Parity]:
    """Compare with what must come out, for each part that is asked for."""
    if "networks" in options.parts:
        [image] = pictures(options.pictures, 1, (97, 129)) if options.tiny else pictures(options.pictures, 1)
        yield from networks.parity(image, device)
    if "crf" in options.parts:
        yield from crf.parity(_pictures(options), _crf(options), device)


def measured(options: argparse.Namespace, device: torch.device) -> Iterator[Figure]:
    """Measure the ceilings, and each part that is asked for."""
    product = ceilings.product(device, options.tiny)
    yield product
    yield ceilings.copy(device, options.tiny)
    if "networks" in options.parts:
        yield from networks.measure(_networks(options), device, product.median)
    if "crf" in options.parts:
        yield from crf.measure(_pictures(options), _crf(options), device)
    if "stage" in options.parts:
        yield from stage.measure(_pictures(options), _stage(options), device)


def _pictures(options: argparse.Namespace) -> list[NDArray[np.uint8]]:
    return pictures(options.pictures, 1, (12, 17)) if options.tiny else pictures(options.pictures, 8)


def _networks(options: argparse.Namespace) -> networks.Load:
    return networks.TINY if options.tiny else networks.Load()


def _crf(options: argparse.Namespace) -> crf.CRFLoad:
    return crf.TINY if options.tiny else crf.CRFLoad()


def _stage(options: argparse.Namespace) -> stage.StageLoad:
    return stage.TINY if options.tiny else stage.StageLoad()


def _parser() -> argparse.ArgumentParser:
    """Read flags with the standard library: the machine has no reader of dataclasses."""
    parser = argparse.ArgumentParser(prog="gpu", description="The networks, the dense CRF and the stage on a GPU.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="next to no data, to see that all of it runs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured; all by default")
    parser.add_argument("--pictures", type=Path, help="a folder of JPEG photographs; generated scenes by default")
    return parser


if __name__ == "__main__":
    sys.exit(main())
