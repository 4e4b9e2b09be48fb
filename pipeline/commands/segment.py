"""Segment every image of a bucket: `deeplab-buckets segment --input URI --output URI --model NAME_OR_URI`.

Also `ray job submit --working-dir . -- python jobs/segment_bucket.py ...`. The last line of stdout is the run's
summary. Exit codes: 0 done; 3 more failures than the error budget allows, at the end or of all that is to do; 2
arguments, configuration, model or storage that cannot be used, found before any work; 1 anything else.
"""

from typing import TYPE_CHECKING, Any

from pipeline.batch.config import RunConfig
from pipeline.commands.command import Command, takes

if TYPE_CHECKING:
    from pipeline.batch.preflight import Preflight
    from pipeline.batch.summary import Forecast, Summary


@takes(RunConfig)
def segment(**flags: Any) -> "Summary | Forecast":
    """Segment every image of a bucket into Parquet masks, on the cluster that RAY_ADDRESS names or a local one.

    Returns:
        The run's summary, or with dry_run what it would do. `summary.check(budget)` raises BudgetError where more
        images have failed than an ErrorBudget allows.

    Raises:
        PipelineError: something that was given cannot be used, or the run cannot go on; what was committed stays.
    """
    return command.run(flags)


def _prepare(config: RunConfig) -> "Preflight":
    from pipeline.batch.preflight import check

    return check(config)


def _work(ready: "Preflight") -> "Summary | Forecast":
    from pipeline.batch import run

    return run.forecast(ready) if ready.config.dry_run else run.segment(ready)


def _said(ready: "Preflight", summary: "Summary | Forecast") -> str:
    from pipeline.batch.summary import Summary

    if isinstance(summary, Summary):
        summary.check(ready.config.budget)
    return summary.to_json()


command = Command(
    name="segment",
    config=RunConfig,
    prepare=_prepare,
    work=_work,
    said=_said,
    uses_ray=True,
    interrupted="interrupted; what was committed stays, and the same command continues from there",
    sections={
        "what": ("input", "output", "model", "classes", "confidence_map"),
        "which images": ("input_format", "carry", "only_keys", "limit", "retry_errors"),
        "how the run goes": ("dry_run", "error_budget", "max_pixels", "commit_seconds", "compact", "prices"),
    },
)
