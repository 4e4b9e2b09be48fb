"""How a kernel's work is cut: as many programs as keep the device busy, each with a block of rows at a time."""

from dataclasses import dataclass

import torch

PIECE = 32
"""Entries of a vertex that are summed in one go; a vertex with more has its sum from the sums of pieces."""

PROGRAMS_PER_PROCESSOR = 8
"""Of four warps each, on each of a GPU's streaming multiprocessors."""

GPU_BLOCK = 2048
"""Elements that a program on a GPU works on at a time: 16 a thread."""

INTERPRETED_BLOCK = 2**20
"""Elements in a block where Triton's interpreter runs the kernels: its time goes by the operation, however large."""


@dataclass(frozen=True, kw_only=True)
class Launches:
    """Say how kernels are launched on a device. Every kernel goes over its rows in steps, so that any grid will do.

    Attributes:
        programs: of a launch.
        block: elements that a program works on at a time.
        batch: entries of a vertex whose rows are fetched at the same time.
        is_interpreted: it is Triton's interpreter that runs the kernels.
    """

    programs: int
    block: int
    batch: int
    is_interpreted: bool

    @classmethod
    def on(cls, device: torch.device) -> "Launches":
        """Suit a CUDA device; on any other it is Triton's interpreter that runs the kernels."""
        if device.type != "cuda":
            return cls(programs=1, block=INTERPRETED_BLOCK, batch=PIECE, is_interpreted=True)
        processors = torch.cuda.get_device_properties(device).multi_processor_count
        return cls(programs=processors * PROGRAMS_PER_PROCESSOR, block=GPU_BLOCK, batch=4, is_interpreted=False)

    def rows(self, elements: int, count: int) -> int:
        """Give the rows in a block, a power of two, of `elements` elements each, a power of two, of `count` in all."""
        if self.is_interpreted:  # it works on the whole block, however few of its rows there are
            return min(max(1, self.block // elements), lanes(count))
        return max(1, self.block // elements)


def lanes(width: int) -> int:
    """Give the smallest power of two that holds a row of `width`: a block's sides are powers of two."""
    return 1 << (width - 1).bit_length()
