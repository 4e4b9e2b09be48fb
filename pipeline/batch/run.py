"""A whole run: check everything, list, plan, run the graph in rounds, commit, and account for every image."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import ray
import yaml

from pipeline import masks, storage
from pipeline.batch import known_models, ledger
from pipeline.batch.ahead import Ahead, Round, listing_ahead
from pipeline.batch.config import generation
from pipeline.batch.listing import Listing, list_input
from pipeline.batch.monitoring.capacity import Capacity
from pipeline.batch.monitoring.cost import NodeClock, costs, node_types
from pipeline.batch.monitoring.metrics import RunMetrics
from pipeline.batch.notes import Notes
from pipeline.batch.parcels import BLOCK_BYTES
from pipeline.batch.parts import cut
from pipeline.batch.preflight import Preflight
from pipeline.batch.remote_tracker import RemoteTracker
from pipeline.batch.sink import Committer
from pipeline.batch.staging import adopt
from pipeline.batch.summary import Forecast, Summary
from pipeline.batch.to_do import ToDo
from pipeline.logits import estimated_bytes
from pipeline.masks import DatasetInfo
from pipeline.refine import RefineDevice, noted
from pipeline.runtime.background import in_background
from pipeline.runtime.cluster import connect, plan_when_free
from pipeline.runtime.connection import connection
from pipeline.runtime.lock import Lock, claimed, new_run_id
from pipeline.runtime.periodic import every
from pipeline.runtime.plan import ASSUMED_BYTES, Plan
from pipeline.runtime.progress import ProgressBar, say

_SHOW_SECONDS = 0.5
_CLUSTER_SECONDS = 10.0
_JUDGE_SECONDS = 10.0
_LOCK = f"{masks.RUNS_FOLDER}/lock.json"


def segment(ready: Preflight) -> Summary:
    """Segment what the output does not hold yet, on the Ray cluster that `connect` gives; nothing to do needs none.

    A run stops early once more images have failed than its error budget allows of all that it has to do.

    Raises:
        RunError: the cluster has no capacity, another run is at work on the output, or the run's counts do not add up.
        StorageError: the storage stopped answering; what was committed stays, and the same run continues it.
    """
    started = time.monotonic()
    config, info = ready.config, dataset_info(ready)
    folder = storage.join(config.output, masks.RUNS_FOLDER, info.run_id)
    lock = Lock(output=config.output, place=_LOCK, run_id=info.run_id)
    with claimed(lock), storage.retrying(config.storage_timeout), connection():
        adopt(config.output, lock.confirm)
        done = ledger.load(config.output, info)
        info = replace(info, created=done.after(info.created))
        settings = yaml.safe_dump(config.redacted(), sort_keys=False).encode()
        storage.put_whole(storage.join(folder, "config.yaml"), settings)
        listing, ids = list_input(ready.source, config.limit, ready.only)
        notes = Notes(output=config.output, info=info, check=lock.confirm)
        to_do = ToDo(ledger=done, listing=listing, notes=notes, errors=config.retry_errors)
        metrics = RunMetrics(info.run_id, config.budget)
        listed = every(_SHOW_SECONDS, lambda: metrics.listed(listing.listed))
        with listed, listing_ahead(storage.join(folder, "manifest"), ids, to_do.of) as ahead:
            run = _Run(
                ready=ready,
                info=info,
                listing=listing,
                to_do=to_do,
                ahead=ahead,
                committer=Committer(config.output, info, config.commit_seconds, lock.check, config.compact),
                clock=NodeClock(node_types),
                metrics=metrics,
                started=started,
                confirm=lock.confirm,
            )
            run.do()
        if lock.former:
            done.remove_late(config.output, info, lock.former, lock.confirm)
        if ready.facts_place:
            known_models.keep(config, ready.facts_place, ready.facts, lock.confirm)
        summary = run.summary()
        storage.put_whole(storage.join(folder, "summary.json"), summary.to_json().encode())
    return summary


@dataclass(kw_only=True)
class _Run:
    """A run at work.

    Attributes:
        confirm: called before the work; raises where another run has come at the same time.
        plan: of the last round; None before there is something to do.
        first_done: when the first image was done; 0 before.
        stopped: whether it has stopped early.
        is_all_told: whether the person knows what was listed.
        workers: actors of a round that took part in a stage, at most.
    """

    ready: Preflight
    info: DatasetInfo
    listing: Listing
    to_do: ToDo
    ahead: Ahead
    committer: Committer
    clock: NodeClock
    metrics: RunMetrics
    started: float
    confirm: Callable[[], None]
    plan: Plan | None = None
    first_done: float = 0.0
    stopped: bool = False
    is_all_told: bool = False
    workers: Counter[str] = field(default_factory=Counter)

    def do(self) -> None:
        """Plan, and work in rounds, until nothing is left to do or the run has to stop."""
        fitting: Plan | None = None
        while not self.stopped and (todo := self.ahead.take(self.committer.rows)):
            self._tell_listed()
            if fitting is None:  # later, the workers of the round before may not be gone yet
                self.confirm()
                loading = in_background(self.ready.load)
                connect()
                loading.result()
                memory = self.ready.refiner.memory(len(self.ready.facts.classes))
                fitting = plan_when_free(memory, _refine_device(self.ready), self.ready.config.workers)
            model, mean_bytes = self.ready.load(), self.listing.mean_bytes
            with_logits = estimated_bytes(len(model.classes), model.geometry, mean_bytes or ASSUMED_BYTES)
            chunk = max(chunk.rows for chunk in todo.manifest.chunks)
            self.plan = fitting.for_images(todo.manifest.rows, mean_bytes, with_logits, chunk)
            say(f"plan: {self.plan}")
            self._work(todo, self.plan)
        self._tell_listed()
        self.clock.update()

    def _tell_listed(self) -> None:
        """Say what was found so far, until all is listed."""
        if self.is_all_told:
            return
        self.is_all_told = self.ahead.is_ended
        for line in self.listing.ignored.lines() if self.is_all_told else []:
            say(line)
        images = f"{self.listing.listed} images listed{'' if self.is_all_told else ' so far'}"
        new = f", {self.listing.new} new ones left for a run without --retry-errors" if self.listing.new else ""
        say(f"{images}, {self.listing.skipped} done already, {self.ahead.rows} to do{new}")
        if self.listing.skipped and self.ready.config.confidence_map:
            say("what is done stays as it is, with a confidence map or without; --only-keys does images again")

    def _work(self, todo: Round, plan: Plan) -> None:
        """Run the graph over a round, and commit what comes out, until it is all, or the run has to stop."""
        from pipeline.batch import graph  # Ray Data, which a run with nothing to do does without
        from pipeline.runtime.configured import configured

        tracker, capacity, balance = RemoteTracker(), Capacity(plan), graph.balance(plan)
        to_say, rows, failed = [balance] if balance else [], self.committer.rows, self._failed
        with configured(block_bytes=BLOCK_BYTES), ProgressBar(todo.manifest.rows) as progress:

            def show() -> None:
                with suppress(ray.exceptions.GetTimeoutError):  # the process that counts is away, and comes back
                    counts = tracker.counts()
                    self.workers |= counts.workers
                    progress.show(counts.finished, counts.failed)
                    self.metrics.update(self.ahead.rows, plan, counts, self.committer.receipts)
                    if to_say and (line := to_say[0].told(counts)):
                        to_say.clear()
                        say(line)
                    if self._must_stop(failed + counts.failed):
                        self.committer.commit_if_due(_JUDGE_SECONDS)  # the tracker may count a lost worker's rows twice

            def check_cluster() -> None:
                capacity.check()
                self.clock.update()

            check_cluster()  # so that a run which waits for machines says so at once
            committing = every(_SHOW_SECONDS, self.committer.commit_if_due)
            showing, checking = every(_SHOW_SECONDS, show), every(_CLUSTER_SECONDS, check_cluster)
            blocks = graph.finished_blocks(self.ready, todo.manifest, plan, tracker)
            try:
                with closing(blocks), committing as raise_failure, showing, checking:
                    for block in blocks:
                        raise_failure()
                        self.ahead.raise_failure()
                        self.first_done = self.first_done or time.monotonic()
                        self.committer.add(block.ref, block.metadata.size_bytes)
                        self.stopped = self._must_stop(self._failed)
                        if self.stopped:
                            break
            finally:
                self.committer.finish()
            to_say += [balance] if balance else []  # what it was like at first, and over all
            show()
        tracker.stop()
        if self.committer.rows - rows == todo.manifest.rows:
            self.to_do.note(todo.parts, self.committer)

    @property
    def _failed(self) -> int:
        """Count the rows of errors/ that are committed."""
        return sum(receipt.failed for receipt in self.committer.receipts)

    def _must_stop(self, failed: int) -> bool:
        """Tell whether so many failures are too many of all that is to do, which is known once all is listed.

        Images tried again stop no run: it would never come to an end.
        """
        config = self.ready.config
        is_known = self.ahead.is_ended and not config.retry_errors
        return is_known and config.budget.is_exceeded_early(failed, self.ahead.rows)

    def summary(self) -> Summary:
        """Account for every image. Raises RunError where one is lost or has two rows."""
        ended, begun = time.monotonic(), self.first_done or self.started
        segmented = sum(receipt.segmented for receipt in self.committer.receipts)
        failed = self._failed
        undone = self.ahead.rows - segmented - failed if self.stopped else 0
        return Summary(
            run_id=self.info.run_id,
            generation=self.info.generation,
            model=self.info.model,
            network=self.info.network,
            adapter=self.info.adapter,
            listed=self.listing.listed,
            skipped=self.listing.skipped,
            segmented=segmented,
            failed=failed,
            ignored=dict(self.listing.ignored.counts),
            left=self.listing.new + undone,
            stopped=undone > 0,
            seconds=round(ended - self.started, 3),
            startup_seconds=round(begun - self.started, 3),
            images_per_second=round((segmented + failed) / max(ended - begun, 1e-3), 3) if self.plan else 0.0,
            output=storage.redact(self.ready.config.output),
            nodes=dict(self.clock.most),
            node_seconds=_rounded(self.clock.seconds),
            node_costs=_rounded(paid := costs(self.clock.seconds, self.ready.prices or {})),
            cost=self._cost(paid),
            plan=self.plan,
            workers=dict(self.workers),
        )

    def _cost(self, paid: Mapping[str, float]) -> float | None:
        if self.ready.prices is None:
            return None
        unpriced = sorted(self.clock.seconds.keys() - paid.keys())
        if unpriced:
            say(f"no cost: the prices name no {', '.join(unpriced)}")
        return None if unpriced else sum(paid.values())


def forecast(ready: Preflight) -> Forecast:
    """Say what `segment` would do, without doing it. Raises StorageError."""
    with storage.retrying(ready.config.storage_timeout), connection():
        info = dataset_info(ready)
        listing, ids = list_input(ready.source, ready.config.limit, ready.only)
        done = ledger.load(ready.config.output, info)
        to_do = ToDo(ledger=done, listing=listing, notes=None, errors=ready.config.retry_errors)
        for part in cut(ids):
            for some in to_do.of(part):
                for key in some.table.column("key").to_pylist():
                    say(f"to do: {key!r}")
        for line in listing.ignored.lines():
            say(line)
    return Forecast(
        listed=listing.listed,
        skipped=listing.skipped,
        to_do=listing.listed - listing.skipped - listing.new,
        ignored=dict(listing.ignored.counts),
        generation=info.generation,
        model=info.model,
        network=info.network,
        adapter=info.adapter,
        output=storage.redact(ready.config.output),
    )


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(figure, 6) for name, figure in figures.items()}


def _refine_device(ready: Preflight) -> RefineDevice:
    """Give the device that was asked for, or the CPUs where the refiner runs on these alone."""
    return ready.config.refine.device if ready.refiner.on_gpu() else "cpu"


def dataset_info(ready: Preflight) -> DatasetInfo:
    """Make the note in the files of a run that begins now; its name is new."""
    model = ready.facts
    return DatasetInfo(
        classes=model.classes,
        palette=model.palette,
        model=model.name,
        model_digest=model.digest,
        network=model.network,
        adapter=model.adapter,
        crf=noted(ready.refiner),
        generation=generation(model.digest, ready.config.inference, ready.refiner.fingerprint()),
        run_id=new_run_id(),
        created=datetime.now(UTC).isoformat(),
        input=storage.redact(ready.source.keys_below),
        image_column=ready.config.image_column or "",
        again=ready.only.digest if ready.only and not ready.config.retry_errors else "",
        carried={field.name: str(field.type) for field in ready.source.carried},
    )
