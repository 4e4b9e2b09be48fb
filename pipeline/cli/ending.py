"""How every job begins and ends: errors in a line, exit codes; with Ray and without."""

import io
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import TextIO, TypeVar

from pipeline import storage
from pipeline.errors import ConfigError, PipelineError, VerdictError
from pipeline.runtime import connection
from pipeline.runtime.console import is_interrupt, own_streams, tell

_Ready = TypeVar("_Ready")


def enter(name: str, prepare: Callable[[], _Ready], work: Callable[[_Ready], str], interrupted: str) -> int:
    """Prepare, work, and print what came of it; errors become one line of stderr, without a traceback.

    Ray is left to `prepare` and `work` to start, see runtime/cluster.py; what they have started ends here.

    Args:
        name: of the job, in front of its messages.
        prepare: parses the flags and checks everything before the work begins.
        work: from what `prepare` gave to what is printed on stdout.
        interrupted: the message after Ctrl-C or SIGTERM.

    Returns:
        The exit code: 0 done; 2 something the job was given cannot be used; 3 more failures than are allowed; 4
        more drift than is allowed; 1 anything else, also before the work, such as a storage that does not answer.
    """
    return _entered(name, prepare, work, interrupted, connection.connection)


def enter_alone(name: str, prepare: Callable[[], _Ready], work: Callable[[_Ready], str], interrupted: str) -> int:
    """Do as `enter`, without Ray."""
    return _entered(name, prepare, work, interrupted, nullcontext)


@own_streams()
def _entered(
    name: str,
    prepare: Callable[[], _Ready],
    work: Callable[[_Ready], str],
    interrupted: str,
    around: Callable[[], AbstractContextManager[object]],
) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `ray job stop` ends a run as Ctrl-C does
    stdout = sys.stdout
    said = partial(_said, name, interrupted, stdout)
    # what came of the work is said before Ray ends: a thread that still asks Ray for something then ends the process
    with redirect_stdout(io.StringIO()), said(ConfigError) as connecting, around():
        with redirect_stdout(stdout), said(PipelineError) as preparing:
            ready = prepare()
        if preparing.code:
            return preparing.code
        # Ray prints what goes wrong in its cluster; once the work is done, none needs it
        with redirect_stdout(sys.stderr), said(ConfigError) as working:
            tell(work(ready), stdout)
    return connecting.code or working.code


@dataclass
class _Ending:
    """The exit code that a part of a job ends with."""

    code: int = 0


@contextmanager
def _said(name: str, interrupted: str, stdout: TextIO, unusable: type[PipelineError]) -> Iterator[_Ending]:
    """Say in a line of stderr what the block raises, and note its exit code: 2 for what is `unusable`.

    A storage that does not answer may do so later: that is 1, after which the same command is worth another try.
    """
    ending = _Ending()
    try:
        yield ending
    except (KeyboardInterrupt, RuntimeError) as error:
        if not is_interrupt(error):
            raise
        ending.code = _fail(name, interrupted, code=1)
    except VerdictError as error:
        tell(error.summary, stdout)
        ending.code = _fail(name, error, error.code)
    except PipelineError as error:
        is_final = isinstance(error, unusable) and not storage.is_outage(error)
        ending.code = _fail(name, error, code=2 if is_final else 1)


def _fail(name: str, reason: object, code: int) -> int:
    tell(f"{name}: {reason}", sys.stderr)
    return code
