"""What Ray raises, as the project's own errors: as they were raised, or as a line that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from pipeline.errors import PipelineError, RunError


def get(result: Any) -> Any:
    """Call `ray.get`, but raise an error of the project's own without Ray's wrapping and its remote traceback."""
    try:
        return ray.get(result)
    except Exception as error:
        raise root_cause(error) from None


@contextmanager
def as_raised() -> Iterator[None]:
    """Run a graph of Ray Data, and raise what it raises as `root_cause` gives it."""
    from ray.data.exceptions import ExecutionTimeoutError  # loading Ray Data takes long, and many tasks need none of it

    try:
        yield
    except (ray.exceptions.RayError, ExecutionTimeoutError) as error:
        raise root_cause(error) from None


class CarriedError(Exception):
    """An error on its way through Ray Data, which adds advice of its own to the text of what it is given."""

    cause: PipelineError


@contextmanager
def carried() -> Iterator[None]:
    """Raise an error of the project's own, in a task of Ray Data, so that `root_cause` gives it as it was."""
    try:
        yield
    except PipelineError as error:
        carrier = CarriedError()
        carrier.cause = error
        raise carrier from None


def standstill() -> RunError:
    """Make the error of a job that has stood still for longer than its environment allows."""
    return RunError(
        "nothing moved for as long as RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S allows; see `ray status` for "
        "machines that are gone, and whether the storage answers; what was committed stays, and the same "
        "command continues from there"
    )


def root_cause(error: BaseException) -> BaseException:
    """Return the project's own error inside what Ray wrapped around it, or one that says in a line what Ray met.

    An error that is neither the project's nor Ray's comes back as it is.
    """
    from ray.data.exceptions import ExecutionTimeoutError

    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, PipelineError) and not isinstance(inner, ray.exceptions.RayError):
            return inner
        if isinstance(inner, ray.exceptions.OutOfDiskError):
            return RunError(
                "a machine's memory for objects is full, and so is the disk that Ray spills them to; free the disk, or "
                "start Ray with --object-spilling-directory on a larger one, then run the same command"
            )
        if isinstance(inner, ExecutionTimeoutError):
            return standstill()
        cause = getattr(inner, "cause", None)
        inner = cause if isinstance(cause, BaseException) else inner.__cause__
    if isinstance(error, ray.exceptions.RayError) and not isinstance(error, ray.exceptions.RayTaskError):
        last_line = [line for line in str(error).splitlines() if line.strip()][-1:]
        return RunError(
            f"Ray gave up ({type(error).__name__}: {''.join(last_line).strip()}); what was committed stays, and the "
            "same command continues from there"
        )
    return error
