"""The run's own metrics, beside Ray's, for the alerts and the dashboard of infra/monitoring.

The driver alone exports them, from what all workers report: a worker that is lost takes no count with it.
Ray puts `ray_` before each name, and `_total` behind a counter's. It exports a gauge only when it has just been set, so
that a run's gauges end with the run.
"""

import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

from pipeline.batch.balance import ON_GPU
from pipeline.batch.counts import RunCounts
from pipeline.batch.error_budget import ErrorBudget
from pipeline.batch.sink import WRITES_AT_ONCE, Receipt
from pipeline.runtime.plan import Plan


class RunMetrics:
    """Gauges and counters of one run, each with its `run_id`."""

    def __init__(self, run_id: str, budget: ErrorBudget) -> None:
        """Start with nothing exported."""
        self._tags = {"run_id": run_id}
        self._started = time.time()
        self._budget = budget
        self._totals: dict[tuple[str, ...], float] = {}
        self._metrics: dict[str, Any] = {}

    def listed(self, images: int) -> None:
        """Export that the run is there, and how many images it has listed so far, once Ray is there to export it."""
        if not ray.is_initialized():
            return
        self._gauge("run_start_seconds", "Unix time at which the run began", self._started)
        self._gauge("images_listed", "images in the input, as far as it is listed", images)
        self._gauge("error_budget", "share of failed images that the run tolerates", self._budget.share)
        least = "images from which on the error budget is judged while the run works"
        self._gauge("error_budget_least_images", least, self._budget.least_images)

    def update(self, to_do: int, plan: Plan, counts: RunCounts, receipts: Sequence[Receipt]) -> None:
        """Export how far the run is: what its stages have done, and what is committed."""
        self._gauge("images_to_do", "images the run has to work on", to_do)
        segmenters = max(plan.segmenters, counts.workers["segment"])
        workers_of = {
            "fetch": plan.fetchers,
            "segment": segmenters,
            "refine": max(plan.refiners, counts.workers["refine"]),
            ON_GPU: segmenters if plan.gpus_refine else 0,
            "write": WRITES_AT_ONCE,
        }
        for stage, workers in workers_of.items():
            self._gauge("workers", "tasks or actors of a stage", workers, stage=stage)
        self._gauge("images_waiting", "images segmented and not yet refined", counts.waiting)
        self._count("images_finished", "images that left the last stage", counts.finished)
        self._count("labels_kept", "labels that took part in refinement, summed over images", counts.kept)
        written = {"write": sum(receipt.segmented + receipt.failed for receipt in receipts)}
        for stage, images in (counts.images | written).items():
            self._count("stage_images", "images that came through a stage", images, stage=stage)
        writing = {"write": sum(receipt.seconds for receipt in receipts)}
        for stage, seconds in (counts.seconds | writing).items():
            self._count("stage_seconds", "seconds that a stage's workers were busy", seconds, stage=stage)
        self._count("images_segmented", "masks committed", sum(receipt.segmented for receipt in receipts))
        causes = {cause for receipt in receipts for cause in receipt.causes}
        for stage, error in causes:
            failed = sum(receipt.causes[stage, error] for receipt in receipts)
            self._count("images_failed", "failed images committed, by cause", failed, stage=stage, error=error)

    def _gauge(self, name: str, description: str, value: float, **tags: str) -> None:
        self._metric(Gauge, name, description, tags).set(value, tags | self._tags)

    def _count(self, name: str, description: str, total: float, **tags: str) -> None:
        """Bring a counter to `total`. Where that has fallen, with the process that counted, the counter stays."""
        series = (name, *sorted(tags.values()))
        grown = total - self._totals.get(series, 0.0)
        self._totals[series] = total
        counter = self._metric(Counter, name, description, tags)
        if grown > 0:
            counter.inc(grown, tags | self._tags)

    def _metric(self, kind: Any, name: str, description: str, tags: dict[str, str]) -> Any:
        if name not in self._metrics:
            self._metrics[name] = kind(f"deeplab_{name}", description, tuple(tags | self._tags))
        return self._metrics[name]
