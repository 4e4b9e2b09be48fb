"""Run a whole training: check everything, read every pair, train, export the best checkpoint."""

import dataclasses
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from pipeline import storage
from pipeline.data import labelled
from pipeline.data.formats.format import Pair
from pipeline.labels import Labels
from pipeline.models.checkpoints import native
from pipeline.models.deeplab import SegmentationModel
from pipeline.runtime.cluster import connect
from pipeline.runtime.configured import configured
from pipeline.runtime.labelled import load
from pipeline.runtime.lock import Lock, held, put_checked
from pipeline.runtime.progress import say
from pipeline.training.beginning import check_apart, untrained
from pipeline.training.checkpoints import Checkpoints, Note
from pipeline.training.config import TrainConfig
from pipeline.training.distributed.trainer import fit
from pipeline.training.loop import put_result
from pipeline.training.settings import SETTINGS_FILE, SUMMARY_FILE, agree_with_earlier, settings


@dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """Hold what was opened and built: the data listed, the output written to and read back, the weights read.

    Attributes:
        config: with paths that mean the same on every machine.
        labels: what the masks hold.
        training: the pairs to train on.
        validation: the pairs that choose the best checkpoint; none without.
        model: as training begins with it. Its card has the scales that it is validated at and exported with.
        settings: what the same run may go on with.
    """

    config: TrainConfig
    labels: Labels
    training: list[Pair]
    validation: list[Pair]
    model: SegmentationModel
    settings: bytes


def prepare(config: TrainConfig) -> TrainingInputs:
    """Try in seconds, before Ray starts, everything that can go wrong.

    Raises:
        PipelineError: whatever makes the run impossible.
    """
    config = config.resolved()
    labels = labelled.labels(config.data_format, config.classes)
    listed = partial(labelled.list_pairs, config.data, config.data_format, columns=config.columns, tell=say)
    training = listed(config.split)
    validation = listed(config.validation_split) if config.validation_split else []
    storage.probe_writable(config.output)
    chosen = settings(config, labels, training, validation)
    agree_with_earlier(config, chosen)
    check_apart(config, training, validation)
    return TrainingInputs(
        config=config,
        labels=labels,
        training=training,
        validation=validation,
        model=untrained(config, labels),
        settings=chosen,
    )


def run(ready: TrainingInputs) -> dict[str, Any]:
    """Train and export on the Ray cluster that `connect` gives; returns the summary.

    Raises:
        ConfigError: labelled pictures that cannot be used, by name.
        RunError: another run trains there, the cluster is too small or busy, training diverged, or it failed too often.
        StorageError: the storage stopped answering; the same run goes on from its last checkpoint.
    """
    connect()
    config = ready.config
    with configured(storage_timeout=config.storage_timeout), held(Lock(output=config.folder)) as lock:
        agree_with_earlier(config, ready.settings)  # another run may have ended since this one looked
        return _run(ready, lock)


def _run(ready: TrainingInputs, lock: Lock) -> dict[str, Any]:
    begin = time.monotonic()
    config, model = ready.config, ready.model
    training = load(ready.training, ready.labels, config.split)
    validation = load(ready.validation, ready.labels, str(config.validation_split)) if ready.validation else None
    put_checked(storage.join(config.folder, SETTINGS_FILE), ready.settings, lock.check)
    trained = fit(
        model,
        config.recipe,
        training,
        validation,
        checkpoints=Checkpoints(folder=config.folder, check=lock.check),
        workers=config.worker_range,
        max_failures=config.max_failures,
    )
    best = trained.best.note
    put_result(trained.best.state, model)
    lock.check()
    weights = _export(model, config, best)
    summary = {
        "name": config.name,
        "weights": storage.redact(weights),
        "best_step": best.step,
        "loss": round(best.loss, 4),
        "mean_iou": None if best.mean_iou is None else round(100 * best.mean_iou, 2),
        "images_per_second": round(config.recipe.batch * trained.steps_per_second, 3)
        if trained.steps_per_second
        else None,
        "seconds": round(time.monotonic() - begin, 1),
    }
    put_checked(storage.join(config.folder, SUMMARY_FILE), json.dumps(summary).encode(), lock.check)
    return summary


def _export(model: SegmentationModel, config: TrainConfig, best: Note) -> str:
    """Put the weights and their card beside the checkpoints; returns the URI of the weights."""
    scores = {}
    if best.mean_iou is not None:
        scores[f"mean IoU on the split {config.validation_split}"] = round(100 * best.mean_iou, 2)
    model.card = dataclasses.replace(
        model.card,
        licence=config.licence,
        training_split=f"{config.split} of {PurePosixPath(storage.redact(config.data)).name}",  # no path of a machine
        source=f"deeplab-buckets train, step {best.step} of {config.recipe.iterations}; {model.card.source}",
        scores=scores,
    )
    uri = storage.join(config.folder, f"{config.name}{native.SUFFIX}")
    native.save(model, uri, half=True)
    return uri
