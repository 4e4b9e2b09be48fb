"""Calls on the cluster: their order, how many are under way, and what comes of one that fails or dies."""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from pipeline.errors import RunError, StorageError
from pipeline.runtime.tasks import tables


def counted(number: int, folder: Path) -> pa.Table:
    """Give a table of the number, and how many calls are under way."""
    mark = folder / f"{number}"
    mark.touch()
    time.sleep(0.3 if number % 2 else 0.6)
    under_way = len(list(folder.iterdir()))
    mark.unlink()
    return pa.table({"number": [number], "under_way": [under_way]})


def refused() -> pa.Table:
    raise StorageError("no")


@pytest.mark.usefixtures("cluster")
def test_tables_come_in_order_and_only_some_are_made_at_a_time(tmp_path: Path) -> None:
    found = pa.concat_tables(ray.get(tables([partial(counted, n, tmp_path) for n in range(6)], at_once=2)))
    assert found["number"].to_pylist() == list(range(6))
    assert set(found["under_way"].to_pylist()) <= {1, 2}


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("call", "error", "message"), [(refused, StorageError, "^no$"), (partial(os._exit, 1), RunError, "Ray gave up")]
)
def test_a_call_that_fails_or_takes_its_process_down_each_time_ends_what_waits_for_it(
    call: Callable[[], pa.Table], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tables([call], at_once=1)
