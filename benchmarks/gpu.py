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

import torch

from benchmarks.on_gpu import ceilings, networks
from benchmarks.on_gpu.figures import HEADER, Figure, Parity
from benchmarks.on_gpu.pictures import pictures
from benchmarks.table import markdown

PARTS = ("networks",)


def main(argv: Sequence[str] | None = None) -> int:
    """Check, measure and print; returns the exit code."""
    options = _parser().parse_args(argv)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("gpu: no CUDA device is there, nothing is measured; run it on a GPU machine", file=sys.stderr)
        return 2
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
    [image] = pictures(options.pictures, 1, (97, 129)) if options.tiny else pictures(options.pictures, 1)
    if "networks" in options.parts:
        yield from networks.parity(image, device, _load(options).compiler)


def measured(options: argparse.Namespace, device: torch.device) -> Iterator[Figure]:
    """Measure the ceilings, and each part that is asked for."""
    product = ceilings.product(device, options.tiny)
    yield product
    yield ceilings.copy(device, options.tiny)
    if "networks" in options.parts:
        yield from networks.measure(_load(options), device, product.median)


def _load(options: argparse.Namespace) -> networks.Load:
    return networks.TINY if options.tiny else networks.Load()


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
