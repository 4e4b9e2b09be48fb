"""`python -m tests.helpers.compiled_kernels` compiles the dense CRF's kernels for a GPU that need not be there.

A refinement is gone through on the CPU with every launch replaced by a compilation of what would be launched, for the
types and shapes that a GPU would get. Prints a line for each binary: the kernel, and its size in bytes.
"""

import re
from typing import Any

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from pipeline.geometry import aligned
from pipeline.refine.crf import CRFParams
from pipeline.refine.crf.cuda.launches import Launches
from pipeline.refine.crf.cuda.mean_field import MeanField
from pipeline.refine.crf.cuda.window import windows

HOPPER = GPUTarget("cuda", 90, 32)
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")
TYPES = {
    torch.uint8: "*u8",
    torch.uint16: "*u16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
}


class Compilations:
    """Compiles instead of launching; each binary once."""

    def __init__(self) -> None:
        self.binaries: dict[tuple[Any, ...], Any] = {}

    def run(self, kernel: Any, *args: Any, grid: Any, warmup: bool, **settings: Any) -> None:
        options = {name: settings.pop(name) for name in OPTIONS if name in settings}
        given = dict(zip(kernel.arg_names, args, strict=False)) | settings
        assert given.keys() == set(kernel.arg_names), kernel.__name__
        constants = {
            param.name: given[param.name] for param in kernel.params if param.is_constexpr or given[param.name] is None
        }
        signature = {
            name: "constexpr" if name in constants else _type(value)
            for name, value in sorted(given.items(), key=lambda item: kernel.arg_names.index(item[0]))
        }
        key = (kernel.__name__, *signature.items(), *constants.items(), *options.items())
        if key not in self.binaries:
            source = ASTSource(kernel, signature, constants)
            self.binaries[key] = triton.compile(source, target=HOPPER, options=options)


def _type(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32" if abs(value) < 2**31 else "i64"


def main() -> None:
    """Compile, and print what was compiled."""
    compilations = Compilations()
    launches = Launches(programs=1056, block=2048, batch=4, is_interpreted=False)
    JITFunction.run = lambda self, *args, **settings: compilations.run(self, *args, **settings)
    Launches.on = classmethod(lambda cls, device: launches)  # type: ignore[assignment, method-assign]
    vars(torch).update(empty=torch.zeros, empty_like=torch.zeros_like)  # nothing is written, and indices must be such
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8))
    [window] = windows(image, torch.zeros(21, 3, 3, dtype=torch.float16), aligned(8), tile=1024, margin=0)
    for costs in ((), (1.0,) * 21):
        field = MeanField(CRFParams(iterations=2, label_costs=costs), torch.device("cpu"))
        field.survey(window)
        field.iterate(window, field.build(window), range(21), torch.empty((2, *image.shape[:2]), dtype=torch.uint8))
    for (name, *_), binary in compilations.binaries.items():
        assert re.search(r"\.target sm_90", binary.asm["ptx"]), name
        print(name, len(binary.asm["cubin"]))


if __name__ == "__main__":
    main()
