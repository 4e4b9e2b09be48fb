"""Builds the dense CRF's compiled core; everything else about the package is in pyproject.toml.

The core is a module of its own beside `pipeline`, not inside it: where a job ships its source tree (`ray job submit
--working-dir .`), that tree stands in for the installed package `pipeline`, and the installed core is found all the
same.
Its vector code is compiled once for each instruction set; which one runs is chosen when it is loaded.
"""

import platform
from glob import glob

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

CORE = "pipeline/refine/crf/core"
SOURCES = ("dispatch", "grid", "kernel", "lattice", "mean_field", "module", "smoothing", "table")
HEADERS = sorted(glob(f"{CORE}/*.hpp") + glob(f"{CORE}/*.inl"))  # objects of an older checkout are compiled again
FLAGS = ["-std=c++17", "-O3", "-fvisibility=hidden", "-Wno-psabi"]
EXACT = "-ffp-contract=off"  # lattice coordinates must round as pydensecrf's do
FUSED = "-ffp-contract=fast"
INSTRUCTIONS = {"baseline": []}
if platform.machine() in ("x86_64", "AMD64"):
    INSTRUCTIONS["avx2"] = ["-mavx2", "-mfma"]
    INSTRUCTIONS["avx512"] = ["-mavx512f", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"]

setup(
    libraries=[
        (
            f"crf_{name}",
            {
                "sources": [f"{CORE}/kernels_{name}.cpp"],
                "cflags": [*FLAGS, FUSED, *flags],
                "obj_deps": {"": HEADERS},
            },
        )
        for name, flags in INSTRUCTIONS.items()
    ],
    ext_modules=[
        Pybind11Extension(
            "dense_crf_core",
            [f"{CORE}/{name}.cpp" for name in SOURCES],
            extra_compile_args=[*FLAGS, EXACT],
            depends=HEADERS,
        )
    ],
)
