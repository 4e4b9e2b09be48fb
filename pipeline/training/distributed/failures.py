"""What ends a run for good, and what a lost worker's replacement may get past."""

from collections.abc import Iterable, Mapping
from typing import Any

import ray.train
from ray.exceptions import RayError, RayTaskError
from ray.train import UserCallback

from pipeline.errors import DeviceLostError, PipelineError, RunError
from pipeline.runtime.errors import root_cause

_FAULTS = (
    *(PipelineError, ValueError, TypeError, LookupError, AttributeError, NameError, NotImplementedError),
    *(AssertionError, ArithmeticError, ImportError),
)
"""Raised for what a worker is given, or does: by the same steps again. Others, such as OSError and the RuntimeError of
a connection, may come of a lost worker or machine."""


class StopForGood(UserCallback):
    """Ends a run at an error that is sure to come again: Ray Train by itself tries again after every error."""

    def after_exception(
        self,
        run_context: Any,  # noqa: ARG002  # Ray passes it by name
        worker_exceptions: Mapping[int, Exception],
    ) -> None:
        """Raise such an error, which Ray Train takes for one of its own and does not try again."""
        if fault := _fault(worker_exceptions.values()):
            raise fault


def reason(error: ray.train.TrainingFailedError) -> PipelineError:
    """Return the project's own error in what Ray Train raises, or a line that names the first worker's, or its own."""
    failures = [*getattr(error, "worker_failures", {}).values()] or [getattr(error, "controller_failure", error)]
    cause = root_cause(_fault(failures) or failures[0])
    if isinstance(cause, PipelineError):
        return cause
    return RunError(" ".join([f"training failed: {type(cause).__name__}:", *str(cause).strip().splitlines()[:1]]))


def _fault(errors: Iterable[Exception]) -> BaseException | None:
    """Find an error that is sure to come again. What Ray itself met, such as a lost process, may not."""
    for error in errors:
        cause = root_cause(error)
        of_ray = isinstance(error, RayError) and not isinstance(error, RayTaskError)
        if isinstance(cause, _FAULTS) and not of_ray and not isinstance(cause, DeviceLostError):
            return cause
    return None
