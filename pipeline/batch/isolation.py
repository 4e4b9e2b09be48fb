"""Images that kill their worker are recognized and given up, and the rest of their batch goes on.

A stage notes the keys of a batch before it starts and clears them when it is done. A batch that comes back with keys
still noted has lost its worker once: these images are then done one by one. An image that has lost MAX_ATTEMPTS
workers becomes a failed row.
"""

import time
from collections.abc import Callable

import pyarrow as pa

from pipeline.batch.tracker import Tracker
from pipeline.data import rows
from pipeline.errors import WorkerError

MAX_ATTEMPTS = 2

DEVICE_LOST = 70
"""Exit code of a worker whose GPU is in an error state."""


def run_isolated(
    stage: str, batch: pa.Table, process: Callable[[pa.Table], pa.Table], tracker: Tracker
) -> list[pa.Table]:
    """Run `process` over `batch`, giving up on images that have taken their worker down MAX_ATTEMPTS times.

    Returns:
        what `process` returned, part by part, and a table of failed rows (schema FETCHED) for the images given up.
    """
    keys = batch.column("key").to_pylist()
    lost = tracker.lost_attempts(stage, keys)
    fresh = [i for i, attempts in enumerate(lost) if attempts == 0]
    alone = [[i] for i, attempts in enumerate(lost) if 0 < attempts < MAX_ATTEMPTS]
    done = []
    for part in [fresh, *alone]:
        if part:
            part_keys = [keys[i] for i in part]
            tracker.begin(stage, part_keys)
            began = time.monotonic()
            done.append(process(batch.take(part)))
            tracker.end(stage, part_keys, time.monotonic() - began)
    given_up = [i for i, attempts in enumerate(lost) if attempts >= MAX_ATTEMPTS]
    if given_up:
        done.append(rows.table([_failed_row(row, stage) for row in batch.take(given_up).to_pylist()], rows.FETCHED))
    return done


def _failed_row(row: dict[str, object], stage: str) -> dict[str, object]:
    error = WorkerError(f"the worker died {MAX_ATTEMPTS} times while it held this image; try the image by itself")
    return {name: row[name] for name in ("key", "source", "version", "digest")} | rows.failure(stage, error)
