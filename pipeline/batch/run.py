"""A whole run: check everything, list, plan, run the graph, commit, and account for every image."""

import logging
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import ray
import yaml
from ray._private.state import available_resources_per_node

from pipeline import storage
from pipeline.batch import graph, ledger
from pipeline.batch.config import generation
from pipeline.batch.cost import NodeClock, Prices, cost, node_types
from pipeline.batch.in_flight import RemoteWatch
from pipeline.batch.listing import Listing, Tables, list_input
from pipeline.batch.lock import Lock, held
from pipeline.batch.manifest import Manifest
from pipeline.batch.metrics import RunMetrics
from pipeline.batch.preflight import Preflight
from pipeline.batch.progress import Progress, say
from pipeline.batch.resources import Node, Plan, RefineDevice, plan
from pipeline.batch.room import Room
from pipeline.batch.sink import Committer
from pipeline.batch.summary import Forecast, Summary
from pipeline.batch.ticker import every
from pipeline.errors import RunError
from pipeline.masks import DatasetInfo

_RUNS_FOLDER = "_runs"
_WAIT_FOR_ROOM_SECONDS = 15.0
_MIN_BLOCK_BYTES = 256 * 1024
_MAX_BLOCK_BYTES = 16 * 1024 * 1024
_BLOCKS_WANTED = 64
_TICK_SECONDS = 0.5
_LOOK_SECONDS = 10.0


def segment(ready: Preflight) -> Summary:
    """Segment what the output does not hold yet, on the Ray cluster this process is connected to or a local one.

    Raises:
        RunError: the cluster has no room, another run is at work on the output, or the run's counts do not add up.
        StorageError: the storage stopped answering; what was committed stays, and the same run continues it.
    """
    started = time.monotonic()
    config = ready.config
    info = dataset_info(ready)
    run = storage.join(config.output, _RUNS_FOLDER, info.run_id)
    storage.put_whole(storage.join(run, "config.yaml"), yaml.safe_dump(config.redacted(), sort_keys=False).encode())
    manifest = Manifest(storage.join(run, "manifest"))
    patience = config.storage_timeout
    with (
        held(Lock(output=config.output, run_id=info.run_id)) as lock,
        storage.patient(patience),
        connected(),
    ):
        clock = NodeClock(node_types)
        listing, tables = _to_do(ready, info.generation)
        manifest.write(tables, whole=ready.source.format == "parquet")
        say(f"{listing.listed} images listed, {listing.skipped} done already, {manifest.rows} to do")
        committer = Committer(config.output, info, config.commit_seconds, lock.check, patience)
        fitting, first_done = None, started
        if manifest.rows:
            fitting = plan_when_free(len(ready.model.classes), _refine_device(ready)).for_images(manifest.rows)
            say(f"plan: {fitting}")
            first_done = _work(ready, manifest, listing, fitting, committer, clock)
        clock.look()
        ended = time.monotonic()
    segmented = sum(receipt.segmented for receipt in committer.receipts)
    failed = sum(receipt.failed for receipt in committer.receipts)
    summary = Summary(
        run_id=info.run_id,
        listed=listing.listed,
        skipped=listing.skipped,
        segmented=segmented,
        failed=failed,
        seconds=round(ended - started, 3),
        startup_seconds=round(first_done - started, 3),
        images_per_second=round((segmented + failed) / max(ended - first_done, 1e-3), 3) if manifest.rows else 0.0,
        output=storage.redact(config.output),
        node_seconds={name: round(seconds, 3) for name, seconds in clock.seconds.items()},
        cost=_cost(clock.seconds, ready.prices),
        plan=fitting,
    )
    storage.put_whole(storage.join(run, "summary.json"), summary.to_json().encode())
    return summary


def forecast(ready: Preflight) -> Forecast:
    """What `segment` would do, without doing it. Raises StorageError."""
    with connected():
        current = dataset_info(ready).generation
        listing, tables = _to_do(ready, current)
        for table in tables:
            for key in table.column("key").to_pylist():
                say(f"to do: {key!r}")
    return Forecast(
        listed=listing.listed,
        skipped=listing.skipped,
        to_do=listing.listed - listing.skipped,
        generation=current,
        output=storage.redact(ready.config.output),
    )


def _to_do(ready: Preflight, generation: str) -> tuple[Listing, Tables]:
    done = ledger.load(ready.config.output, generation)
    return list_input(ready.source, done.failed if ready.config.retry_errors else done.pending, ready.config.limit)


def _cost(seconds: Mapping[str, float], prices: Prices | None) -> float | None:
    if prices is None:
        return None
    unpriced = sorted(seconds.keys() - prices.keys())
    if unpriced:
        say(f"no cost: the prices name no {', '.join(unpriced)}")
    return cost(seconds, prices)


def _work(
    ready: Preflight, manifest: Manifest, listing: Listing, fitting: Plan, committer: Committer, clock: NodeClock
) -> float:
    """Run the graph over the manifest and commit what comes out; returns when the first image was done."""
    graph.configure(min(max(listing.bytes // _BLOCKS_WANTED, _MIN_BLOCK_BYTES), _MAX_BLOCK_BYTES))
    watch, room = RemoteWatch(), Room(fitting)
    metrics = RunMetrics(committer.info.run_id, listing.listed, manifest.rows, ready.config.error_budget, fitting)
    first_done = 0.0
    with Progress(manifest.rows) as progress:

        def show() -> None:
            totals = watch.totals()
            progress.show(totals.finished, totals.failed)
            metrics.update(totals, committer.receipts)

        def tick() -> None:
            committer.commit_if_due()
            show()

        def look() -> None:
            room.look()
            clock.look()

        try:
            with every(_TICK_SECONDS, tick) as check, every(_LOOK_SECONDS, look):
                for block in graph.finished_blocks(ready, manifest, fitting, watch):
                    check()
                    first_done = first_done or time.monotonic()
                    committer.add(block.ref, block.metadata.size_bytes)
        finally:
            committer.finish()
        show()
    watch.stop()
    return first_done


def plan_when_free(labels: int, refine_on: RefineDevice = "cpu") -> Plan:
    """The plan for what is free; a run that has just ended may need a moment to release its CPUs."""
    deadline = time.monotonic() + _WAIT_FOR_ROOM_SECONDS
    while True:
        try:
            return plan(_free_nodes(), labels, refine_on)
        except RunError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _refine_device(ready: Preflight) -> RefineDevice:
    """Only the project's own CRF has a CUDA path."""
    refine = ready.config.refine
    return refine.device if refine.backend == "native" else "cpu"


def _free_nodes() -> list[Node]:
    return [
        Node(cpus=free.get("CPU", 0.0), gpus=free.get("GPU", 0.0), memory=free.get("memory", 0.0))
        for free in available_resources_per_node().values()  # type: ignore[no-untyped-call]
    ]


@contextmanager
def connected() -> Iterator[None]:
    """The cluster this process is connected to or RAY_ADDRESS names; else a local one for the time of the run.

    Ray by itself would rather join a local cluster that another run has started, and die with it.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # an error is raised; what the core logs is not for a user
    on_terminate = signal.getsignal(signal.SIGTERM)
    where: dict[str, Any] = {} if "RAY_ADDRESS" in os.environ else {"address": "local", "include_dashboard": False}
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # a node that starts too slowly is told by nothing more special
        raise RunError(
            f"Ray did not start or answer: {' '.join(str(error).split())[:300]}; "
            "see whether RAY_ADDRESS names a running cluster, and whether this machine is overloaded"
        ) from error
    if callable(on_terminate):
        signal.signal(signal.SIGTERM, on_terminate)  # Ray has put its own handler there
    try:
        yield
    finally:
        ray.shutdown()


def dataset_info(ready: Preflight) -> DatasetInfo:
    """The note in the files of a run that begins now; its name is new."""
    now = datetime.now(UTC)
    model = ready.model
    crf = ready.crf.params if ready.crf else None
    return DatasetInfo(
        classes=model.classes,
        palette=tuple((int(r), int(g), int(b)) for r, g, b in model.palette),
        model=model.card.name,
        model_digest=model.digest,
        crf=asdict(crf) if crf else None,
        generation=generation(model.digest, ready.config.inference, crf),
        run_id=f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        created=now.isoformat(),
    )
