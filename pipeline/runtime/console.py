"""The person at the terminal: what they are told ends no job where nobody takes it, and what they stop is stopped."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


def tell(text: str, stream: TextIO | None) -> None:
    """Print a line at once, above a bar that is shown; where nobody takes it, do nothing."""
    from tqdm import tqdm  # here, since --help does without

    if stream is not None and not stream.closed:
        with suppress(OSError):
            tqdm.write(text, file=stream)
            stream.flush()


def is_terminal() -> bool:
    """Tell whether a person watches stderr."""
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


@contextmanager
def own_streams() -> Iterator[None]:
    """Have a stdout and a stderr for a job, which libraries take for granted, and let go of what nobody takes of it.

    With that left over the interpreter would end with an exit code of its own.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            _settle(stream)


def _settle(stream: TextIO) -> None:
    try:
        if not stream.closed:
            stream.flush()
    except OSError:
        with suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def is_interrupt(error: BaseException) -> bool:
    """Tell whether an error is Ctrl-C; Python calls one that comes while a class is made a RuntimeError."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)
