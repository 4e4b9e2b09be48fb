"""A whole training run: check everything, look at every pair, train, export the best checkpoint."""

import dataclasses
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pipeline import models, storage
from pipeline.errors import ConfigError
from pipeline.models.checkpoints import native
from pipeline.models.deeplab import SegmentationModel
from pipeline.training import layouts
from pipeline.training.config import TrainConfig
from pipeline.training.distributed.library import load
from pipeline.training.distributed.trainer import fit
from pipeline.training.loop import parameter_groups, restore
from pipeline.training.pairs import Labels, Pair

_SETTINGS_FILE, _SUMMARY_FILE = "settings.json", "summary.json"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What was opened and built: the data listed, the output written to and read back, the weights read."""

    config: TrainConfig
    labels: Labels
    training: list[Pair]
    validation: list[Pair]
    model: SegmentationModel


def prepare(config: TrainConfig) -> Prepared:
    """Everything that can go wrong before Ray starts, tried in seconds.

    Raises:
        PipelineError: whatever makes the run impossible.
    """
    config = config.resolved()
    labels = layouts.labels(config.data_format, config.classes)
    training = layouts.list_pairs(config.data, config.data_format, config.split)
    validation = (
        layouts.list_pairs(config.data, config.data_format, config.validation_split) if config.validation_split else []
    )
    storage.probe_writable(config.output)
    _agree_with_earlier(config, labels)
    torch.manual_seed(config.recipe.seed)  # a new head is random
    model = models.build(
        config.architecture, labels.classes, name=config.name, palette=labels.palette, trunk_weights=config.init
    )
    return Prepared(config=config, labels=labels, training=training, validation=validation, model=model)


def run(ready: Prepared) -> dict[str, Any]:
    """Train and export on the Ray cluster this process is connected to; returns the summary.

    Raises:
        ConfigError: labelled pictures that cannot be used, by name.
        RunError: the cluster has no room, or training failed too often.
        StorageError: the storage stopped answering; the same run goes on from its last checkpoint.
    """
    begin = time.monotonic()
    config, model = ready.config, ready.model
    training = load(ready.training, ready.labels)
    validation = load(ready.validation, ready.labels) if ready.validation else None
    storage.put_whole(storage.join(config.folder, _SETTINGS_FILE), _settings(config, ready.labels))
    trained = fit(
        model,
        config.recipe,
        training,
        validation,
        folder=config.folder,
        workers=config.worker_range,
        max_failures=config.max_failures,
    )
    metrics = trained.metrics
    restore(trained.state, model, torch.optim.SGD(parameter_groups(model, config.recipe)), config.recipe)
    weights = _export(model, config, metrics)
    summary = {
        "name": config.name,
        "weights": storage.redact(weights),
        "best_step": metrics["step"],
        "loss": round(metrics["loss"], 4),
        "mean_iou": round(100 * metrics["mean_iou"], 2) if "mean_iou" in metrics else None,
        "images_per_second": round(config.recipe.batch * trained.steps_per_second, 3)
        if trained.steps_per_second
        else None,
        "seconds": round(time.monotonic() - begin, 1),
    }
    storage.put_whole(storage.join(config.folder, _SUMMARY_FILE), json.dumps(summary).encode())
    return summary


def _export(model: SegmentationModel, config: TrainConfig, metrics: dict[str, Any]) -> str:
    """Put the weights and their card beside the checkpoints; returns the URI of the weights."""
    scored = {}
    if "mean_iou" in metrics:
        scored[f"mean IoU on the split {config.validation_split}"] = round(100 * metrics["mean_iou"], 2)
    model.card = dataclasses.replace(
        model.card,
        licence=config.licence,
        training_split=f"{config.split} of {storage.redact(config.data)}",
        source=f"jobs/train.py, step {metrics['step']} of {config.recipe.iterations}; {model.card.source}",
        scores=scored,
        scales=config.recipe.scales,
    )
    uri = storage.join(config.folder, f"{config.name}{native.SUFFIX}")
    native.save(model, uri, half=True)
    return uri


def _settings(config: TrainConfig, labels: Labels) -> bytes:
    """What a run must share with an earlier one to go on from it."""
    known = {
        "architecture": config.architecture,
        "init": config.init and storage.redact(config.init),
        "data": storage.redact(config.data),
        "split": config.split,
        "classes": labels.classes,
        "recipe": asdict(config.recipe),
    }
    return json.dumps(known, indent=2).encode()


def _agree_with_earlier(config: TrainConfig, labels: Labels) -> None:
    """Refuse the name of a run that is finished, or that was begun with other settings."""
    if storage.exists(storage.join(config.folder, _SUMMARY_FILE)):
        raise ConfigError(
            f"the run {config.name!r} at {storage.redact(config.output)} is finished; give another --name to train anew"
        )
    uri = storage.join(config.folder, _SETTINGS_FILE)
    if not storage.exists(uri):
        return
    earlier, now = json.loads(storage.read_bytes(uri)), json.loads(_settings(config, labels))
    earlier |= earlier.pop("recipe")
    now |= now.pop("recipe")
    changed = [f"{name} {earlier.get(name)} -> {now.get(name)}" for name in now if now[name] != earlier.get(name)]
    if changed:
        raise ConfigError(
            f"the run {config.name!r} was begun with other settings ({', '.join(changed)}); "
            "give the same again to go on with it, or another --name to train anew"
        )
