"""What a job sets for its process is set as a whole, and put back."""

import logging
import warnings
from typing import Any

import pytest
from ray.data import DataContext

from pipeline import storage
from pipeline.runtime.configured import configured
from pipeline.runtime.room import MakeRoom
from tests.helpers.pictures import jpeg, photo


def state() -> dict[str, Any]:
    """Everything that `configured` may touch."""
    options = {name: value for name, value in vars(DataContext.get_current()).items() if name != "execution_options"}
    return {
        "options": {name: repr(value) for name, value in options.items()},
        "level": logging.getLogger("ray.data").level,
        "filters": list(warnings.filters),
        "retry_seconds": storage.retry_seconds(),
    }


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_all_is_put_back(error: type[BaseException] | None) -> None:
    before = state()
    try:
        with configured(storage_timeout=7.0, block_bytes=12345):
            context = DataContext.get_current()
            assert (context.target_max_block_size, context.max_errored_blocks) == (12345, 0)
            assert not context.enable_progress_bars
            assert storage.retry_seconds() == 7.0
            assert logging.getLogger("ray.data").level == logging.CRITICAL
            if error:
                raise error
    except (ZeroDivisionError, KeyboardInterrupt):
        assert error
    assert state() == before


def test_of_blocks_in_one_another_the_innermost_counts_and_the_longest_timeout() -> None:
    with configured(storage_timeout=7.0, block_bytes=12345):
        outside = state()
        with configured():
            assert DataContext.get_current().target_max_block_size != 12345
            assert DataContext.get_current().custom_execution_callback_classes == [MakeRoom]
            assert storage.retry_seconds() == 7.0
        assert state() == outside


def test_a_run_may_stand_still_unless_rays_own_variable_says_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S", raising=False)
    monkeypatch.setattr(DataContext.get_current(), "execution_no_progress_timeout_s", 1800.0)
    with configured():
        assert DataContext.get_current().execution_no_progress_timeout_s == -1
    monkeypatch.setenv("RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S", "1800")
    with configured():
        assert DataContext.get_current().execution_no_progress_timeout_s == 1800


def test_a_run_leaves_all_as_it_was(cluster: None, tmp_path: Any) -> None:
    from pipeline.batch import graph  # noqa: F401  # what it loads adds filters of its own
    from pipeline.batch.config import RefineConfig, RunConfig
    from pipeline.batch.preflight import check
    from pipeline.batch.run import segment
    from pipeline.storage import Uri

    before = state()
    storage.put_whole(f"{tmp_path}/in/a.jpg", jpeg(photo(0)))
    config = RunConfig(
        input=Uri(f"{tmp_path}/in"),
        output=Uri(f"{tmp_path}/out"),
        model=Uri("scenes"),
        refine=RefineConfig(backend="none"),
    )
    assert segment(check(config)).segmented == 1
    assert state() == before
