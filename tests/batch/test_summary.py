"""A summary cannot lose an image."""

import json
import re
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pipeline.batch.error_budget import ErrorBudget
from pipeline.batch.summary import Summary
from pipeline.errors import BudgetError, RunError
from pipeline.runtime.plan import Plan

PLAN = Plan(
    segmenters=2,
    most_segmenters=2,
    segmenter_cpus=0.5,
    segmenter_gpus=0,
    segmenter_batch=4,
    gpus_refine=False,
    refiners=1,
    most_refiners=1,
    refiner_cpus=0.5,
    fetchers=3,
)


def summary(**counts: int) -> Summary:
    rest: dict[str, Any] = {
        "seconds": 1.0,
        "startup_seconds": 0.5,
        "images_per_second": 2.0,
        "nodes": {},
        "node_seconds": {},
        "node_costs": {},
        "cost": None,
        "workers": {},
        "ignored": {},
        "model": "m",
        "network": "n",
        "adapter": "none",
    }
    return Summary(run_id="r", generation="g", output="o", plan=PLAN, **rest, **{"left": 0} | counts)


@pytest.mark.parametrize("counts", [(10, 2, 7, 0), (10, 0, 11, 0), (0, 0, 0, 1)])
def test_counts_that_do_not_add_up_are_refused(counts: tuple[int, int, int, int]) -> None:
    listed, skipped, segmented, failed = counts
    with pytest.raises(RunError, match="does not account for every image"):
        summary(listed=listed, skipped=skipped, segmented=segmented, failed=failed)


def test_images_left_by_a_run_that_stopped_are_accounted_for() -> None:
    assert summary(listed=10, skipped=2, segmented=3, failed=1, left=4).left == 4
    with pytest.raises(RunError, match="does not account for every image"):
        summary(listed=10, skipped=2, segmented=8, failed=1, left=-1)


@pytest.mark.parametrize(("failed", "exceeds"), [(0, False), (1, False), (2, True)])
def test_error_budget_is_a_share_of_what_was_worked_on(failed: int, exceeds: bool) -> None:
    made = summary(listed=150, skipped=50, segmented=100 - failed, failed=failed)
    with (
        pytest.raises(BudgetError, match=f"^{failed} of 100 images failed; see o/errors$") if exceeds else nullcontext()
    ):
        made.check(ErrorBudget(share=0.01))


def test_a_run_that_stopped_says_what_is_left() -> None:
    stopped = summary(listed=150, skipped=50, segmented=7, failed=3, left=90, stopped=True)
    with pytest.raises(BudgetError, match=r"^stopped early: 3 of 10 images failed.*; the same command .* 90 ") as error:
        stopped.check(ErrorBudget(share=0.01))
    assert json.loads(error.value.summary)["left"] == 90


def test_new_images_that_a_retry_leaves_do_not_make_it_one_that_stopped() -> None:
    retried = summary(listed=10, skipped=0, segmented=1, failed=1, left=8)
    with pytest.raises(BudgetError, match=r"^1 of 2 images failed; see .*/errors$"):
        retried.check(ErrorBudget(share=0.01))


def test_nothing_to_do_is_within_any_budget() -> None:
    summary(listed=5, skipped=5, segmented=0, failed=0).check(ErrorBudget(share=0.0))


def test_json_names_what_the_job_promises() -> None:
    promised = {
        "run_id",
        "listed",
        "skipped",
        "segmented",
        "failed",
        "ignored",
        "left",
        "seconds",
        "images_per_second",
        "output",
    }
    written = json.loads(summary(listed=1, skipped=0, segmented=1, failed=0).to_json())
    assert promised <= set(written)
    assert Plan(**written["plan"]) == PLAN


def test_the_sample_of_the_documents_has_the_fields_of_a_summary_in_their_order() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    [sample] = re.findall(r'^    (\{"run_id": .*?\n     .*?\})\n\n', readme, re.MULTILINE | re.DOTALL)
    shown = json.loads(sample)
    assert list(shown) == [field.name for field in fields(Summary)]
    assert list(shown["plan"]) == [field.name for field in fields(Plan)]
