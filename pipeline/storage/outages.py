"""Outages of a storage: it is asked again, for as long as a run allows."""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from pipeline.errors import ConfigError, PipelineError, StorageError
from pipeline.numbers import check_numbers
from pipeline.storage.client_errors import CLIENT_ERRORS, NO_ANSWERS, client_errors, http_status, s3_code

CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
"""What a client waits for a server to take a connection, and to send something, before it has not answered."""

_T = TypeVar("_T")
_SERVER_FAILURES = (errno.EIO, errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO))
"""Error numbers of a server's failure where its answer is not known; EREMOTEIO is not on every system."""

_allowed: list[float] = []
"""Seconds that each open `retrying` block allows; threads open and close theirs in any order."""
_silent_since: float | None = None
"""When the outage began that goes on now, by time.monotonic."""


@dataclass(frozen=True, kw_only=True)
class StorageConfig:
    """How long a job waits for its storage: what the configurations of all jobs begin with.

    Args:
        storage_timeout: wait so many seconds for a storage that stops answering in the middle of the run.
    """

    storage_timeout: float = 300.0

    def __post_init__(self) -> None:
        """Raise ConfigError for a time below 0, and for a number of any job's that is none to count with."""
        check_numbers(self)
        if self.storage_timeout < 0:
            raise ConfigError(f"storage_timeout is {self.storage_timeout}; it must be at least 0")


@contextmanager
def retrying(seconds: float) -> Iterator[None]:
    """Ask a storage that fails to answer again for `seconds`: within the block, in all threads of this process.

    Where several blocks are open, the longest time counts. What is sent to other processes takes `retry_seconds()`
    along, and opens a block of its own there.
    """
    _allowed.append(seconds)
    try:
        yield
    finally:
        _allowed.remove(seconds)


def retry_seconds() -> float:
    """Return for how many seconds a storage that does not answer is asked again, in this process, now."""
    return max(_allowed, default=0.0)


def with_retries(call: Callable[[], _T]) -> _T:
    """Return what `call` does; while the storage does not answer, call it again, for as long as `retrying` allows.

    The time counts from the beginning of the outage, even where another call of this process met it first: a call that
    comes once a run has given up does not wait as long again.
    """
    global _silent_since
    started, pause = time.monotonic(), 0.5
    while True:
        try:
            answer = call()
        except Exception as error:
            if not isinstance(error, (OSError, StorageError, *client_errors(*CLIENT_ERRORS))):
                raise
            if not is_outage(error):
                _silent_since = None
                raise
            since = _silent_since or time.monotonic()
            _silent_since = since
            if time.monotonic() + pause > min(started, since) + retry_seconds():
                raise
        else:
            _silent_since = None
            return answer
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


def is_outage(error: BaseException) -> bool:
    """Tell whether an error means that a storage did not answer, or answered that it cannot now."""
    if isinstance(error, PipelineError) and error.__cause__ is not None:
        return is_outage(error.__cause__)
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    answer = error.__cause__ if type(error) is OSError else error  # s3fs gives EIO to all that it does not know
    if (status := http_status(answer)) is not None:
        return status >= 500 or status == 429 or "Throttling" in s3_code(answer)
    if isinstance(error, client_errors(*NO_ANSWERS)):
        return True
    return type(error) is OSError and error.errno in _SERVER_FAILURES
