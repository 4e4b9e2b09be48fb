"""What a job sets for the whole of its process, all of it here, and put back at its end."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ray.data import DataContext
from ray.data.context import AutoscalingConfig

from pipeline import storage
from pipeline.runtime.room import MakeRoom

_NO_PROGRESS_VARIABLE = "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S"


@contextmanager
def configured(*, storage_timeout: float = 0.0, block_bytes: int | None = None) -> Iterator[None]:
    """Set up this process for a job, and put back what was, also where the block raises.

    Ray Data says nothing of its own, since progress and errors are shown elsewhere, and no failed block is forgiven. It
    does not end a run that stands still, which may wait for lost machines and for its storage without end: the alert
    NoProgress calls a person. Where its variable RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S is set, that limit holds.

    These blocks may stand in one another: the innermost counts, but of `storage_timeout` the longest.

    Args:
        storage_timeout: seconds for which a storage that does not answer is asked again.
        block_bytes: where Ray Data cuts what a task gives into blocks; without, it makes one of all.
    """
    logger = logging.getLogger("ray.data")
    level = logger.level
    with storage.retrying(storage_timeout), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"ray\.data")  # that a small bucket cannot fill every worker
        logger.setLevel(logging.CRITICAL)
        context = _data_context(block_bytes)
        try:
            with DataContext.current(context):
                yield
        finally:
            logger.setLevel(level)


def _data_context(block_bytes: int | None) -> DataContext:
    """Copy the options of Ray Data, with every one that this project has an opinion on."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = 0
    context.target_max_block_size = block_bytes
    # an actor takes seconds to start again, so none is given back while its pool has anything to do
    context.autoscaling_config = AutoscalingConfig(actor_pool_util_downscaling_threshold=0.0)
    context.custom_execution_callback_classes = [MakeRoom]  # one, also where these blocks stand in one another
    if _NO_PROGRESS_VARIABLE not in os.environ:
        context.execution_no_progress_timeout_s = -1
    return context
