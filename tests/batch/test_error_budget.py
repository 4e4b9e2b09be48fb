"""How many images may fail: at the end, and while a run is at work."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.batch.config import RunConfig
from pipeline.batch.error_budget import ErrorBudget
from pipeline.batch.run import _Run
from pipeline.batch.sink import Receipt
from pipeline.errors import ConfigError
from pipeline.storage import Uri


@pytest.mark.parametrize(
    ("failed", "images", "at_the_end", "early"),
    [
        (0, 0, False, False),
        (1, 3, True, False),  # of so few, one is much
        (19, 19, True, False),
        (1, 20, True, True),
        (1, 100, False, False),
        (2, 100, True, True),
    ],
)
def test_a_share_may_fail_and_few_images_are_judged_only_at_the_end(
    failed: int, images: int, at_the_end: bool, early: bool
) -> None:
    budget = ErrorBudget(share=0.01)
    assert budget.is_exceeded(failed, images) is at_the_end
    assert budget.is_exceeded_early(failed, images) is early


@pytest.mark.parametrize(
    ("share", "failed", "images"), [(0.29, 29, 100), (0.35, 63, 180), (0.009, 27, 3000), (0, 0, 1)]
)
def test_a_share_that_is_just_met_is_not_exceeded(share: float, failed: int, images: int) -> None:
    """As products these are below: 0.29 * 100 is 28.999999999999996."""
    budget = ErrorBudget(share=share)
    assert not budget.is_exceeded(failed, images)
    assert budget.is_exceeded(failed + 1, images)


def test_no_budget_allows_more_than_everything() -> None:
    assert not ErrorBudget(share=1.0).is_exceeded_early(100, 100)
    for share in (-0.1, 1.1):
        with pytest.raises(ConfigError, match=f"error_budget is {share}; it is a share"):
            ErrorBudget(share=share)


@pytest.mark.parametrize(
    ("failed", "retry_errors", "is_listed", "stops"),
    [(1, False, True, False), (2, False, True, True), (99, True, True, False), (99, False, False, False)],
)
def test_a_run_stops_by_what_it_has_committed_but_not_where_it_tries_errors_again_or_still_lists(
    failed: int, retry_errors: bool, is_listed: bool, stops: bool
) -> None:
    """It would try the same errors first whenever it is started again, and never come to the others."""
    config = RunConfig(input=Uri("/in"), output=Uri("/out"), retry_errors=retry_errors)
    parts: dict[str, Any] = dict.fromkeys(("info", "listing", "to_do", "clock", "metrics", "confirm"))
    receipts = [Receipt(segmented=5), Receipt(segmented=0, causes=Counter({("decode", "ImageError"): failed}))]
    run = _Run(
        ready=SimpleNamespace(config=config),
        ahead=SimpleNamespace(is_ended=is_listed, rows=100),
        committer=SimpleNamespace(receipts=receipts),
        started=0.0,
        **parts,
    )
    assert run._must_stop(run._failed) is stops
