"""What comes out of Ray's tasks: the project's own errors, or what stands for them."""

from typing import NoReturn

import pytest
import ray

from pipeline.errors import RunError, StorageError
from pipeline.runtime import errors


@ray.remote
def fail(error: Exception) -> NoReturn:
    raise error


@ray.remote
class Doomed:
    def __init__(self) -> None:
        raise ZeroDivisionError("no such device")

    def answer(self) -> None:
        pass


def test_an_actor_that_cannot_start_is_told_in_a_line(cluster: None) -> None:
    with pytest.raises(RunError, match=r"Ray gave up \(ActorDiedError: .*no such device.*; what was committed stays"):
        errors.get(Doomed.remote().answer.remote())


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (StorageError("cannot read s3://bucket/key: denied"), StorageError, "^cannot read s3://bucket/key: denied$"),
        (
            ray.exceptions.OutOfDiskError("full"),
            RunError,
            "the disk that Ray spills them to; free the disk, or start Ray",
        ),
        (ZeroDivisionError("by zero"), ZeroDivisionError, "by zero"),
    ],
)
def test_errors_of_tasks(cluster: None, raised: Exception, expected: type[Exception], message: str) -> None:
    with pytest.raises(expected, match=message):
        errors.get(fail.remote(raised))
