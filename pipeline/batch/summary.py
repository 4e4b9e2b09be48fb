"""The account of a run, as counted from what it committed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pipeline.batch.error_budget import ErrorBudget
from pipeline.errors import BudgetError, RunError
from pipeline.runtime.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Accounts for every image: the last line of the job's stdout, and OUTPUT/_runs/RUN_ID/summary.json.

    Attributes:
        run_id: names the run's files.
        generation, model, network, adapter: of the rows it added, as in masks.DatasetInfo.
        listed: images in the input.
        skipped: of these, images that had their row in the output before the run.
        segmented: rows the run added to masks/.
        failed: rows the run added to errors/.
        ignored: what lies in the input and is not read: how many of each kind of file, suffix or name.
        left: images without a row: those that a run which stopped early has not done, which the same command does, and
            new ones that a run with retry_errors leaves.
        stopped: whether the run has stopped early, beyond its error budget.
        seconds: wall time of the whole run.
        startup_seconds: of these, before the first image was done: listing, loading weights, starting actors.
        images_per_second: images done by the second after start-up.
        output: where the rows are.
        nodes: of each type, how many were part of the cluster at once, at most.
        node_seconds: how long nodes of each type were part of the cluster, summed over the nodes.
        node_costs: of these at the prices that were given, as far as types have one.
        cost: their sum; None without prices, or where a type has none.
        plan: the actors that did it, at first and at most; None where there was nothing to do.
        workers: actors that took part in a stage, by its name; a later round starts its own.
    """

    run_id: str
    generation: str
    model: str
    network: str
    adapter: str
    listed: int
    skipped: int
    segmented: int
    failed: int
    ignored: Mapping[str, int]
    left: int
    seconds: float
    startup_seconds: float
    images_per_second: float
    output: str
    nodes: Mapping[str, int]
    node_seconds: Mapping[str, float]
    node_costs: Mapping[str, float]
    cost: float | None
    plan: Plan | None
    workers: Mapping[str, int]
    stopped: bool = False

    def __post_init__(self) -> None:
        """Refuse a summary that loses or repeats an image. Raises RunError."""
        if self.listed != self.skipped + self.segmented + self.failed + self.left or self.left < 0:
            raise RunError(
                f"run {self.run_id} does not account for every image: {self.listed} listed, but {self.skipped} "
                f"skipped + {self.segmented} segmented + {self.failed} failed + {self.left} left; "
                "`deeplab-buckets verify` tells which"
            )

    def check(self, budget: ErrorBudget) -> None:
        """Raise BudgetError where more images have failed than `budget` allows of those that were done."""
        done = self.segmented + self.failed
        if not budget.is_exceeded(self.failed, done):
            return
        message = f"{self.failed} of {done} images failed; see {self.output}/errors"
        if self.stopped:
            message = (
                f"stopped early: {message}. That exceeds error_budget {budget.share:g} of all {done + self.left} that "
                f"were to do; the same command goes on with the {self.left} that are left"
            )
        raise BudgetError(message, self.to_json())

    def to_json(self) -> str:
        """Give one line of JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The work that a run would do, the last line of a dry run's stdout; counts as in Summary, `to_do` images to do.

    Attributes:
        generation, model, network, adapter: of the rows the run would add, as in masks.DatasetInfo.
    """

    listed: int
    skipped: int
    to_do: int
    ignored: Mapping[str, int]
    generation: str
    model: str
    network: str
    adapter: str
    output: str

    def to_json(self) -> str:
        """Give one line of JSON."""
        return json.dumps(asdict(self))
