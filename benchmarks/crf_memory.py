"""Memory and first call of the dense CRF in a process of its own, for benchmarks/crf.py.

`python -m benchmarks.crf_memory 67/3/4` prints vertices a pixel, bytes a pixel at the peak, the bytes a pixel that are
allowed, and milliseconds of the first call, with the core's loading, and of the fastest later one. The logits are made
up: no network is loaded here.
"""

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.crf_pictures import HEIGHT, SETTINGS, STRIDE, WIDTH, photographs
from pipeline.logits import grid_size

LABELS = 21


def main(setting: str) -> None:
    """Measure and print."""
    image = photographs()["astronaut"]
    shape = (LABELS, grid_size(HEIGHT, STRIDE), grid_size(WIDTH, STRIDE))
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    params = SETTINGS[setting]
    before = peak_bytes()
    times = []
    started = time.perf_counter()
    import dense_crf_core

    core = dense_crf_core.Core()
    parameters = dense_crf_core.Parameters(
        iterations=params.iterations,
        gaussian_weight=params.gaussian_weight,
        gaussian_xy=params.gaussian_xy,
        bilateral_weight=params.bilateral_weight,
        bilateral_xy=params.bilateral_xy,
        bilateral_rgb=params.bilateral_rgb,
        symmetric=True,
        prune=0.0,
    )
    for _ in range(6):
        core.label(image, logits, (1, 0, STRIDE), (1, 0, STRIDE), parameters)
        times.append((time.perf_counter() - started) * 1e3)
        started = time.perf_counter()
    pixels = HEIGHT * WIDTH
    vertices = core.vertices / pixels
    print(
        f"{vertices:.2f} {(peak_bytes() - before) / pixels:.0f} {300 + 8 * LABELS * vertices:.0f} "
        f"{times[0]:.0f} {min(times[1:]):.0f}"
    )


def peak_bytes() -> int:
    """Read this process's peak resident memory; ru_maxrss would begin with that of the process which started it."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(sys.argv[1])
