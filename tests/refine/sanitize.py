"""Build the CRF's core under AddressSanitizer and UBSan, and run its tests on that build: `make sanitize`."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -g"
TESTS = ("tests/refine/test_native.py", "tests/refine/test_dense_crf.py", "tests/refine/test_tiles.py")


def main() -> int:
    """Give the exit code of the tests; a fault ends them at once, with the sanitizer's report."""
    with tempfile.TemporaryDirectory() as folder:
        target, settings = f"{folder}/installed", Path(folder, "setup.cfg")
        settings.write_text(f"[build]\nbuild_base = {folder}/build\n")  # shares no object with other builds
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, str(ROOT)]
        build = {"CFLAGS": FLAGS, "CXXFLAGS": FLAGS, "LDFLAGS": FLAGS, "DIST_EXTRA_CONFIG": str(settings)}
        subprocess.run(install, env=os.environ | build, check=True)
        runtimes = [library("libasan.so"), library("libubsan.so"), library("libstdc++.so")]
        instrumented = os.environ | {
            "PYTHONPATH": target,
            "LD_PRELOAD": " ".join(runtimes),
            "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter keeps what it has until it ends
        }
        # -P, or the core that lies in the working folder would be imported instead
        python = [sys.executable, "-P"]
        core = output([*python, "-c", "import dense_crf_core; print(dense_crf_core.__file__)"], instrumented)
        if not core.startswith(target) or b"__asan_report_store" not in Path(core).read_bytes():
            sys.exit(f"{core} is not the core that was to be compiled with {FLAGS}")
        tests = [*python, "-m", "pytest", "-q", "-s", *TESTS]  # -s: a report would be lost with what was captured
        return subprocess.run(tests, cwd=ROOT, env=instrumented).returncode


def output(command: list[str], environment: Mapping[str, str] = os.environ) -> str:
    """Run the command and give its stdout."""
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def library(name: str) -> str:
    """Ask the compiler for the path of one of its libraries."""
    return output(["g++", f"-print-file-name={name}"])


if __name__ == "__main__":
    sys.exit(main())
