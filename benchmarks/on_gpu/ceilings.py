"""What the device can do at best: its fastest product of matrices and its fastest copy."""

import torch

from benchmarks.on_gpu.clock import milliseconds
from benchmarks.on_gpu.figures import Figure


def product(device: torch.device, tiny: bool) -> Figure:
    """Measure a product of square bfloat16 matrices, in 10^12 floating point operations a second."""
    side = 64 if tiny else 8192
    left, right = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    result = torch.empty_like(left)
    times = milliseconds(lambda _: torch.mm(left, right, out=result), device, 3 if tiny else 30)
    values = [2 * side**3 / time / 1e9 for time in times]
    return Figure(what="ceiling: product of bfloat16 matrices", values=values, unit="TFLOP/s")


def copy(device: torch.device, tiny: bool) -> Figure:
    """Measure a copy within the device's memory, in 10^9 bytes a second that are read and written."""
    source = torch.randint(0, 255, (2**12 if tiny else 2**30,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = milliseconds(lambda _: target.copy_(source), device, 3 if tiny else 30)
    return Figure(what="ceiling: copy", values=[2 * len(source) / time / 1e6 for time in times], unit="GB/s")
