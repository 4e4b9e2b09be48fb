"""What the entries of jobs/ that work on a Ray cluster from beginning to end have in common."""

import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from pipeline.batch.cluster import connected
from pipeline.errors import BudgetError, ConfigError, PipelineError

_Ready = TypeVar("_Ready")


def enter(name: str, prepare: Callable[[], _Ready], work: Callable[[_Ready], str], interrupted: str) -> int:
    """Prepare, connect, work, and print what came of it; errors become one line of stderr, without a traceback.

    Args:
        name: of the job, in front of its messages.
        prepare: parses the flags and checks everything before Ray starts.
        work: from what `prepare` gave to what is printed on stdout.
        interrupted: what is said after Ctrl-C or SIGTERM.

    Returns:
        The exit code: 0 done; 2 something the job was given cannot be used; 3 done, with more failures than are
        allowed; 1 anything else.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray job stop` ends a run as Ctrl-C does
    unusable: type[PipelineError] = PipelineError
    try:
        ready = prepare()
        unusable = ConfigError
        with connected():
            done = work(ready)
    except KeyboardInterrupt:
        return _fail(name, interrupted, code=1)
    except BudgetError as error:
        print(error.summary, flush=True)
        return _fail(name, error, code=3)
    except PipelineError as error:
        return _fail(name, error, code=2 if isinstance(error, unusable) else 1)
    print(done, flush=True)
    return 0


def _fail(name: str, reason: object, code: int) -> int:
    print(f"{name}: {reason}", file=sys.stderr)
    return code
