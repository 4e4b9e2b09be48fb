"""Compare the masks of the night with those of the night before, and show Prometheus the drift for a while.

It runs in the CronJob's pod, once the run has succeeded. What comes of it is no failure of the night: the exit code is
0, and the log and the alert MasksDrift say the rest. After SIGTERM before the end of the comparison it is 143, and the
Job starts another pod, which compares again.
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pipeline.commands.compare import command

PORT = 8080
SHOWN_SECONDS = 600.0  # forty scrapes; the alert looks back from there
STOPPED = 128 + signal.SIGTERM


class Metrics(SimpleHTTPRequestHandler):
    """Answers with the file `metrics` of its folder, as text."""

    def guess_type(self, path: str | os.PathLike[str]) -> str:  # noqa: ARG002
        """Name the type that Prometheus reads."""
        return "text/plain; version=0.0.4"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a line each scrape tells nobody anything."""


def drifted(metrics: Path) -> None:
    """Compare, and write the metrics; whatever goes wrong, such as a MAX_DRIFT that is no share, is a line."""
    try:
        output, allowed = os.environ["OUTPUT"], os.environ["MAX_DRIFT"]
        sides = {"output_a": output, "output_b": output}
        drift = command.run(sides | {"max_drift": allowed, "metrics": str(metrics)})
        print(drift.to_json(), flush=True)
        drift.check()
    except Exception as error:
        print(f"compare_night: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


def show(folder: Path, port: int, seconds: float) -> None:
    """Answer Prometheus for so many seconds, or until SIGTERM."""
    with ThreadingHTTPServer(("", port), partial(Metrics, directory=str(folder))) as server:
        ending = threading.Timer(seconds, server.shutdown)
        ending.daemon = True
        ending.start()
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def main(folder: Path = Path("/tmp"), port: int = PORT, shown_seconds: float = SHOWN_SECONDS) -> int:
    """Compare, show; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    metrics = folder / "metrics"
    try:
        drifted(metrics)
    except KeyboardInterrupt:
        return STOPPED
    if metrics.exists():
        show(folder, port, shown_seconds)
    else:
        print("compare_night: there is nothing to show", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
