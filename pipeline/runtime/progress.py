"""How far a run is, on stderr: a live bar on a terminal, a plain line now and then elsewhere."""

import sys
import time

from tqdm import tqdm

from pipeline.runtime.console import is_terminal, tell

_LINE_SECONDS = 10.0


class ProgressBar:
    """Shows images done, images a second and failures. Use as a context manager."""

    def __init__(self, total: int) -> None:
        """Expect `total` images."""
        self._total = total
        self._bar = tqdm(total=total, unit=" images", disable=not is_terminal(), dynamic_ncols=True)
        self._start = self._last_line = time.monotonic()
        self._line, self._printed = f"0 of {total} images", ""

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._bar.disable and self._line != self._printed:
            say(self._line)

    def show(self, finished: int, failed: int) -> None:
        """Show that `finished` images are done, `failed` among them without a mask."""
        now = time.monotonic()
        rate = finished / (now - self._start)
        self._line = f"{finished} of {self._total} images, {failed} failed, {rate:.2f} images/s"
        if not self._bar.disable:
            self._bar.set_postfix(failed=failed, refresh=False)
            self._bar.update(finished - self._bar.n)
        elif now - self._last_line >= _LINE_SECONDS:
            self._last_line, self._printed = now, self._line
            say(self._line)


def say(text: str) -> None:
    """Print one line for the person at the terminal, above a bar."""
    tell(text, sys.stderr)
