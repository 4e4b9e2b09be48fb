"""What ends a training for good, and what is tried again; and the line that says why it ended."""

import pytest
import ray.exceptions
import ray.train

from pipeline.errors import ConfigError, DeviceLostError, RunError, StorageError
from pipeline.training.distributed.failures import StopForGood, reason

DIVERGED = RunError("the loss of step 2 is nan")
FULL = StorageError("cannot write /out/checkpoints/00000004.pt: no space is left there")
LONE = ValueError("Expected more than 1 value per channel when training")
LOST = ray.exceptions.ActorDiedError()
CLOSED = RuntimeError("[gloo] Connection closed by peer")


@pytest.mark.parametrize(
    ("errors", "raised"),
    [
        ({0: DIVERGED, 1: DIVERGED}, DIVERGED),
        ({1: FULL}, FULL),
        ({0: CLOSED, 1: LONE}, LONE),
        ({0: KeyError("head")}, KeyError),
        ({0: ConfigError("the checkpoint is of another recipe")}, ConfigError),
        ({0: LOST}, None),
        ({0: LOST, 1: CLOSED}, None),
        ({0: OSError("no route to host")}, None),
        ({0: DeviceLostError("a GPU is in an error state")}, None),
    ],
)
def test_an_error_that_is_sure_to_come_again_is_not_tried_again(errors, raised):
    """Ray Train tries nothing again that a callback raises."""
    if raised is None:
        StopForGood().after_exception(run_context=None, worker_exceptions=errors)
        return
    with pytest.raises(type(raised) if isinstance(raised, Exception) else raised) as caught:
        StopForGood().after_exception(run_context=None, worker_exceptions=errors)
    assert caught.value in errors.values()


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ray.train.ControllerError(DIVERGED), RunError, "the loss of step 2 is nan"),
        (ray.train.ControllerError(FULL), StorageError, str(FULL)),
        (ray.train.ControllerError(LONE), RunError, f"training failed: ValueError: {LONE}"),
        (ray.train.ControllerError(OSError("no workers")), RunError, "training failed: OSError: no workers"),
        (ray.train.WorkerGroupError("", {0: CLOSED, 1: FULL}), StorageError, str(FULL)),
        (ray.train.WorkerGroupError("", {0: OSError("bad\nworse")}), RunError, "training failed: OSError: bad"),
    ],
)
def test_why_a_training_ended_is_told_in_a_line(error, kind, message):
    told = reason(error)
    assert (type(told), str(told)) == (kind, message)
