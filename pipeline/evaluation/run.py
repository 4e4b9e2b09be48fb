"""A whole evaluation: check everything, fetch the labelled pictures, score, and put the result."""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from pipeline import masks, models, storage
from pipeline.batch.parcels import BLOCK_BYTES
from pipeline.batch.remote_tracker import RemoteTracker
from pipeline.data.formats.format import Pair
from pipeline.data.labelled import list_pairs
from pipeline.errors import ConfigError, RunError
from pipeline.evaluation import graph
from pipeline.evaluation.config import EvaluateConfig
from pipeline.evaluation.existing import count_existing
from pipeline.evaluation.labelled import Labelled, fetch_labelled, labels_for
from pipeline.evaluation.mask_counts import Counting, MaskCounts
from pipeline.evaluation.picture_names import PictureNames
from pipeline.evaluation.result import Evaluation
from pipeline.evaluation.scorer import NETWORK, REFINED, kinds
from pipeline.labels import Labels
from pipeline.logits import estimated_bytes
from pipeline.masks import DatasetInfo
from pipeline.models import Network
from pipeline.refine import Refiner, make_refiner, noted
from pipeline.reports.plots import class_bars, trimap_curve
from pipeline.runtime.cluster import connect, plan_when_free
from pipeline.runtime.configured import configured
from pipeline.runtime.lock import Lock, held, put_checked
from pipeline.runtime.plan import ASSUMED_BYTES
from pipeline.runtime.progress import ProgressBar, say

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class EvaluationInputs:
    """Holds what was opened: the data listed, the output written to and read back, the weights or masks' note read.

    `refiners` has one for each kind of mask that is to be made: none where masks are scored that are there.
    """

    config: EvaluateConfig
    pairs: list[Pair]
    labels: Labels
    scored: Network | DatasetInfo
    refiners: dict[str, Refiner]


def prepare(config: EvaluateConfig) -> EvaluationInputs:
    """Try everything that can go wrong before Ray starts, in seconds.

    Raises:
        PipelineError: whatever makes the evaluation impossible.
    """
    config = config.resolved()
    pairs = list_pairs(config.data, config.data_format, config.split, config.columns, say)
    if config.output is not None:
        storage.probe_writable(config.output)
    scored: Network | DatasetInfo
    refiners: dict[str, Refiner] = {}
    if config.masks is not None:
        scored = masks.generations(config.masks)[0]
    else:
        scored = models.load(str(config.model), smp=config.smp, unnamed=config.classes)
        refiners = kinds(make_refiner(config.refine, scored.card.crf, len(scored.classes)))
    labels = labels_for(config.data_format, config.classes, scored.classes)
    return EvaluationInputs(config=config, pairs=pairs, labels=labels, scored=scored, refiners=refiners)


def evaluate(ready: EvaluationInputs) -> Evaluation:
    """Score on the Ray cluster that `connect` gives, and put the files.

    Raises:
        ConfigError: labelled pictures, or masks, that cannot be used, by name.
        RunError: another run writes there, the cluster is too small or busy, or a picture could not be segmented.
        StorageError: the storage stopped answering.
    """
    connect()
    output = ready.config.output
    with (
        configured(storage_timeout=ready.config.storage_timeout, block_bytes=BLOCK_BYTES),
        nullcontext() if output is None else held(Lock(output=output)) as lock,
    ):
        evaluation = _evaluate(ready)
        if lock is not None:
            _put(evaluation, lock)
    return evaluation


def _evaluate(ready: EvaluationInputs) -> Evaluation:
    begin = time.monotonic()
    config = ready.config
    labelled = fetch_labelled(ready.pairs, ready.labels, config.split)
    how = Counting(classes=len(ready.labels.classes), band=config.band)
    if isinstance(ready.scored, DatasetInfo):
        counts, about = _of_masks(ready, ready.scored, labelled, how)
    else:
        counts, about = _of_model(ready, ready.scored, labelled, how)
    images = len(next(iter(counts.values())).pictures)
    common = {"images": images, "split": config.split, "seconds": round(time.monotonic() - begin, 1)}
    return Evaluation(classes=ready.labels.classes, counts=counts, band=config.band, about=common | about)


def _of_model(
    ready: EvaluationInputs, model: Network, labelled: Labelled, how: Counting
) -> tuple[dict[str, MaskCounts], dict[str, Any]]:
    *_, refiner = ready.refiners.values()
    logits_bytes = estimated_bytes(len(model.classes), model.geometry, ASSUMED_BYTES)
    plan = plan_when_free(refiner.memory(how.classes)).for_images(len(labelled), logits_bytes=logits_bytes)
    say(f"{len(labelled)} labelled images; plan: {plan}")
    tracker = RemoteTracker()
    counts = {kind: MaskCounts(how) for kind in ready.refiners}
    with ProgressBar(len(labelled)) as progress:
        logits = graph.logits_of(labelled, model, ready.config.inference, plan, tracker)
        for row in graph.counted(logits, labelled, model, ready.refiners, how, plan, tracker):
            latest = counts[row["masks"]]
            latest.add_row(row)
            progress.show(len(latest.pictures) + len(latest.failed), len(latest.failed))
    tracker.stop()
    failed = dict.fromkeys(problem for of_kind in counts.values() for problem in of_kind.failed)
    if failed:
        shown = "\n  ".join(list(failed)[:_SHOWN])
        raise RunError(f"{len(failed)} of {len(labelled)} images could not be segmented:\n  {shown}")
    return counts, {"model": model.card.name, "crf": noted(refiner)}


def _of_masks(
    ready: EvaluationInputs, info: DatasetInfo, labelled: Labelled, how: Counting
) -> tuple[dict[str, MaskCounts], dict[str, Any]]:
    uri = str(ready.config.masks)
    kind = REFINED if info.crf else NETWORK
    names = PictureNames(ready.pairs, ready.config.data, info.input)
    joined = count_existing(kind, masks.read_with_sources(uri, info.generation), labelled, names, how)
    for keys, what in ((joined.missing, "without a mask"), (joined.extra, "masks without a labelled image")):
        if keys:
            more = ", ..." if len(keys) > _SHOWN else ""
            say(f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{more}")
    if not joined.rows:
        raise ConfigError(
            f"no mask at {storage.redact(uri)} belongs to a labelled image: masks have keys like "
            f"{joined.extra[0] if joined.extra else 'none'!r}, images like {labelled.keys[0]!r}"
        )
    counts = MaskCounts(how)
    for row in joined.rows:
        counts.add_row(row)
    if not counts.score.matrix.any():
        raise ConfigError(f"in the labelled images that have a mask at {storage.redact(uri)} no pixel is counted")
    about = {"model": info.model, "crf": info.crf, "missing": len(joined.missing), "extra": len(joined.extra)}
    return {kind: counts}, about


def _put(evaluation: Evaluation, lock: Lock) -> None:
    """Put the scores, and then what is drawn of them."""

    def put(name: str, data: bytes) -> None:
        put_checked(storage.join(lock.output, name), data, lock.check)

    put("scores.json", evaluation.to_json().encode())
    put("scores.md", evaluation.to_markdown().encode())
    put("classes.png", class_bars(evaluation.classes, evaluation.iou()))
    put("trimap.png", trimap_curve(evaluation.trimap(), evaluation.band))
