"""A whole run: check everything, list, plan, run the graph, commit, and account for every image."""

import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import ray
import yaml

from pipeline import models, storage
from pipeline.batch import graph, ledger
from pipeline.batch.config import RunConfig, generation
from pipeline.batch.listing import Listing, list_input
from pipeline.batch.manifest import Manifest
from pipeline.batch.progress import Progress, say
from pipeline.batch.resources import Node, Plan, plan
from pipeline.batch.sink import Committer, ahead
from pipeline.batch.source import Source, open_source
from pipeline.batch.summary import Summary
from pipeline.crf import CRFParams
from pipeline.errors import RunError
from pipeline.masks import DatasetInfo
from pipeline.models import SegmentationModel

_RUNS_FOLDER = "_runs"
_WAIT_FOR_ROOM_SECONDS = 15.0
_MIN_BLOCK_BYTES = 256 * 1024
_MAX_BLOCK_BYTES = 16 * 1024 * 1024
_BLOCKS_WANTED = 64


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What was checked and loaded before any work: the input opened, the output written to, the weights read."""

    config: RunConfig
    source: Source
    model: SegmentationModel
    crf: CRFParams | None


def check(config: RunConfig) -> Preflight:
    """Open the input, write to the output and load the model.

    Raises:
        PipelineError: whatever makes the run impossible, within seconds.
    """
    config = config.resolved()
    source = open_source(config.input, config.input_format)
    storage.probe_writable(config.output)
    model = models.load(config.model)
    crf = None if config.refine.backend == "none" else config.refine.params or CRFParams(**model.card.crf)
    return Preflight(config=config, source=source, model=model, crf=crf)


def segment(ready: Preflight) -> Summary:
    """Segment what the output does not hold yet, on the Ray cluster this process is connected to or a local one.

    Raises:
        RunError: the cluster has no room, or the run's counts do not add up.
        StorageError: the storage stopped answering; what was committed stays, and the same run continues it.
    """
    started = time.monotonic()
    config = ready.config
    info = _dataset_info(ready)
    run = storage.join(config.output, _RUNS_FOLDER, info.run_id)
    storage.put_whole(storage.join(run, "config.yaml"), yaml.safe_dump(config.redacted(), sort_keys=False).encode())
    done = ledger.load(config.output, info.generation)
    manifest = Manifest(storage.join(run, "manifest"))
    with _ray():
        listing = list_input(ready.source, done, manifest, config.limit)
        say(f"{listing.listed} images listed, {listing.skipped} done already, {manifest.rows} to do")
        committer = Committer(config.output, info, config.commit_seconds)
        first_done = started
        if manifest.rows:
            first_done = _work(ready, manifest, listing, committer)
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
    )
    storage.put_whole(storage.join(run, "summary.json"), summary.to_json().encode())
    return summary


def _work(ready: Preflight, manifest: Manifest, listing: Listing, committer: Committer) -> float:
    """Run the graph over the manifest and commit what comes out; returns when the first image was done."""
    plan_now = _plan_when_free().for_images(manifest.rows)
    say(f"plan: {plan_now}")
    graph.configure(min(max(listing.bytes // _BLOCKS_WANTED, _MIN_BLOCK_BYTES), _MAX_BLOCK_BYTES))
    watch = graph.start_watch()
    blocks = graph.finished_blocks(
        ready.config, ready.source, manifest, ready.model, ready.crf, plan_now, watch
    )
    first_done = 0.0
    with Progress(manifest.rows) as progress:
        try:
            for block in ahead(blocks):
                if block is not None:
                    first_done = first_done or time.monotonic()
                    committer.add(block.ref, block.metadata.size_bytes)
                committer.commit_if_due()
                progress.show(*ray.get(watch.progress.remote()))
        finally:
            committer.finish()
        progress.show(*ray.get(watch.progress.remote()))
    ray.kill(watch)
    return first_done


def _plan_when_free() -> Plan:
    """The plan for what is free; a run that has just ended may need a moment to release its CPUs."""
    deadline = time.monotonic() + _WAIT_FOR_ROOM_SECONDS
    while True:
        try:
            return plan(_free_nodes())
        except RunError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _free_nodes() -> list[Node]:
    from ray._private.state import available_resources_per_node

    return [
        Node(cpus=free.get("CPU", 0.0), gpus=free.get("GPU", 0.0), memory=free.get("memory", 0.0))
        for free in available_resources_per_node().values()
    ]


@contextmanager
def _ray() -> Iterator[None]:
    """The cluster this process is connected to, or is told of by RAY_ADDRESS; else a local one for the time of the run."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # an error is raised; what the core logs is not for a user
    ray.init(log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _dataset_info(ready: Preflight) -> DatasetInfo:
    now = datetime.now(UTC)
    model = ready.model
    return DatasetInfo(
        classes=model.classes,
        palette=tuple((int(r), int(g), int(b)) for r, g, b in model.palette),
        model=model.card.name,
        model_digest=model.digest,
        crf=asdict(ready.crf) if ready.crf else None,
        generation=generation(model.digest, ready.config.inference, ready.crf),
        run_id=f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        created=now.isoformat(),
    )
