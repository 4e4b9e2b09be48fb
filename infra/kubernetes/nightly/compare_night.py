"""Compare the masks of the night with those of the night before, and show Prometheus the drift for a while.

It runs in the CronJob's pod, once the run has succeeded. What comes of it is no failure of the night: the exit code is
0, and the log and the alert MasksDrift say the rest.
"""

import os
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pipeline.commands.compare import command

PORT = 8080
SHOWN_SECONDS = 600.0  # forty scrapes; the alert looks back from there


class Metrics(SimpleHTTPRequestHandler):
    """Answers with the file `metrics` of its folder, as text."""

    def guess_type(self, path: str | os.PathLike[str]) -> str:  # noqa: ARG002
        """Name the type that Prometheus reads."""
        return "text/plain; version=0.0.4"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a line each scrape tells nobody anything."""


def main(folder: Path = Path("/tmp"), port: int = PORT, shown_seconds: float = SHOWN_SECONDS) -> int:
    """Compare, show; returns 0."""
    output, metrics = os.environ["OUTPUT"], folder / "metrics"
    command.main([output, output, "--max-drift", os.environ["MAX_DRIFT"], "--metrics", str(metrics)])
    if not metrics.exists():  # such as after the first night, which has none before it
        print("compare_night: there is no drift to show", file=sys.stderr)
        return 0
    with ThreadingHTTPServer(("", port), partial(Metrics, directory=str(folder))) as server:
        ending = threading.Timer(shown_seconds, server.shutdown)
        ending.start()
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
