"""The person at the terminal: what they are told ends no job where nobody takes it, and what they stop is stopped."""

import os
import sys
from contextlib import suppress
from typing import TextIO

_UNHEARD = (OSError, ValueError)
"""What a stream raises that nobody reads, or that cannot be written to; the second where it was closed."""


def tell(text: str, stream: TextIO | None) -> None:
    """Print a line at once, above a bar that is shown; where nobody takes it, do nothing."""
    from tqdm import tqdm  # here, since --help does without

    if stream is not None:
        with suppress(*_UNHEARD):
            tqdm.write(text, file=stream)
            stream.flush()


def is_terminal() -> bool:
    """Tell whether a person watches stderr."""
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def open_streams() -> None:
    """Give this process a stdout and a stderr where it was started without: libraries take it that they are there."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def settle() -> None:
    """Let go of what nobody takes, at the end of a job: the interpreter would end with an exit code of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except _UNHEARD:
            with suppress(*_UNHEARD), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def is_interrupt(error: BaseException) -> bool:
    """Tell whether an error is Ctrl-C; Python calls one that comes while a class is made a RuntimeError."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)
