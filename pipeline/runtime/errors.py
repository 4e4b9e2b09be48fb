"""Results of Ray tasks, with the project's own errors as they were raised."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from pipeline.errors import PipelineError, RunError


def get(result: Any) -> Any:
    """`ray.get`, but an error of the project's own comes without Ray's wrapping and its remote traceback."""
    try:
        return ray.get(result)
    except Exception as error:
        raise root_cause(error) from None


class CarriedError(Exception):
    """An error on its way through Ray Data, which adds advice of its own to the text of what it is given."""

    cause: PipelineError


@contextmanager
def carried() -> Iterator[None]:
    """In a task of Ray Data: an error of the project's own is raised so that `root_cause` gives it as it was."""
    try:
        yield
    except PipelineError as error:
        carrier = CarriedError()
        carrier.cause = error
        raise carrier from None


def root_cause(error: BaseException) -> BaseException:
    """The project's own error inside what Ray wrapped around it or stands for, or the error itself."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, PipelineError) and not isinstance(found, ray.exceptions.RayError):
            return found
        if isinstance(found, ray.exceptions.OutOfDiskError):
            return RunError(
                "a machine's memory for objects is full, and so is the disk that Ray spills them to; free the disk, or "
                "start Ray with --object-spilling-directory on a larger one, then run the same command"
            )
        cause = getattr(found, "cause", None)
        found = cause if isinstance(cause, BaseException) else found.__cause__
    if isinstance(error, ray.exceptions.RayError) and not isinstance(error, ray.exceptions.RayTaskError):
        said = [line for line in str(error).splitlines() if line.strip()][-1:]
        return RunError(
            f"Ray gave up ({type(error).__name__}: {''.join(said).strip()}); what was committed stays, and the same "
            "command continues from there"
        )
    return error
