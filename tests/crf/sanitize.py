"""Builds the CRF's core under AddressSanitizer and UBSan, and runs its tests on that build: `make sanitize`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -g"
TESTS = ("tests/crf/test_native.py", "tests/crf/test_dense_crf.py", "tests/crf/test_refine.py")


def main() -> int:
    """Returns the exit code of the tests; a fault ends them at once, with the sanitizer's report."""
    with tempfile.TemporaryDirectory() as folder:
        target, settings = f"{folder}/installed", Path(folder, "setup.cfg")
        settings.write_text(f"[build]\nbuild_base = {folder}/build\n")  # shares no object with other builds
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, str(ROOT)]
        build = {"CFLAGS": FLAGS, "LDFLAGS": FLAGS, "DIST_EXTRA_CONFIG": str(settings)}
        subprocess.run(install, env=os.environ | build, check=True)
        runtimes = [library("libasan.so"), library("libubsan.so"), library("libstdc++.so")]
        instrumented = os.environ | {
            "PYTHONPATH": target,
            "LD_PRELOAD": " ".join(runtimes),
            "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter keeps what it has until it ends
        }
        return subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT, env=instrumented).returncode


def library(name: str) -> str:
    """Where the compiler keeps its runtime."""
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
