"""Train the built-in model on generated scenes, measure it and export it."""

import dataclasses
import functools
import time

import torch

from pipeline import models, storage
from pipeline.metrics import SegmentationScore
from pipeline.models.checkpoints import native
from pipeline.refine.crf import DenseCRF
from pipeline.runtime.lock import Lock, held, put_checked
from pipeline.runtime.progress import say
from pipeline.scenes import CLASSES, scene
from pipeline.training.augment import Pixels
from pipeline.training.examples import batches
from pipeline.training.loop import StepResult, train
from pipeline.training.scenes_config import ARCHITECTURE, ScenesConfig

BACKBONE_WEIGHTS = "efficientnet-lite0-imagenet"
VALIDATION_SEEDS = 950_000
TRAINING_SEEDS = 1_000_000
"""Training draws the scenes from this seed up, validation from VALIDATION_SEEDS up; smaller seeds are for others."""


def run(config: ScenesConfig) -> dict[str, float | int | str]:
    """Train, measure and export; returns the summary. Raises RunError where another run trains there."""
    with held(Lock(output=config.output)) as lock:
        return _run(config, lock)


def _run(config: ScenesConfig, lock: Lock) -> dict[str, float | int | str]:
    begin = time.monotonic()
    model = models.build(ARCHITECTURE, CLASSES, name=config.name, backbone_weights=BACKBONE_WEIGHTS)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU
    checkpoint_uri = storage.join(config.output, "checkpoint.pt")
    train(
        model,
        lambda start: batches(training_scene, model.card.preprocessing, config.recipe, start),
        config.recipe,
        checkpoint=storage.read_bytes(checkpoint_uri) if storage.exists(checkpoint_uri) else None,
        on_checkpoint=lambda data: put_checked(checkpoint_uri, data, lock.check),
        on_step=report,
    )
    scores = validate(model, config)
    model.card = dataclasses.replace(
        model.card,
        licence="Apache-2.0 (the backbone began with the EfficientNet-Lite0 ImageNet weights, Apache-2.0)",
        training_split=f"generated scenes of pipeline.scenes, seeds {TRAINING_SEEDS} and up",
        source=f"deeplab-buckets train-scenes, {config.recipe.iterations} steps; machine and time: {config.machine}",
        scores={
            f"mean IoU on {config.validation} held-out scenes": scores["mean_iou"],
            f"mean IoU on {config.validation} held-out scenes, after the CRF": scores["mean_iou_refined"],
        },
        crf=dataclasses.asdict(config.crf),
    )
    weights_uri = storage.join(config.output, f"{config.name}{native.SUFFIX}")
    lock.check()
    native.save(model, weights_uri, half=True)
    return {"output": weights_uri, "seconds": round(time.monotonic() - begin, 1), **scores}


def training_scene(draw: int) -> tuple[Pixels, Pixels]:
    """Draw the n-th scene of a run; each serves twice in a row, for two crops."""
    return drawn(TRAINING_SEEDS + draw // 2)


drawn = functools.lru_cache(maxsize=1)(scene)


def validate(model: models.SegmentationModel, config: ScenesConfig) -> dict[str, float]:
    """Compute the mean IoU in percent on the held-out scenes, of the network alone and after the CRF."""
    network, refined = SegmentationScore(len(CLASSES)), SegmentationScore(len(CLASSES))
    crf = DenseCRF(config.crf)
    for seed in range(VALIDATION_SEEDS, VALIDATION_SEEDS + config.validation):
        image, truth = scene(seed)
        probabilities = model.probabilities(image)
        network.update(truth, probabilities.argmax(axis=0).astype("uint8"))
        refined.update(truth, crf(image, probabilities).argmax(axis=0).astype("uint8"))
    return {"mean_iou": round(100 * network.mean_iou, 2), "mean_iou_refined": round(100 * refined.mean_iou, 2)}


def report(progress: StepResult) -> None:
    """Print a line to stderr every ten steps."""
    if progress.step % 10 == 0:
        rate = f"learning rate {progress.learning_rate:.2e}"
        say(f"step {progress.step}: loss {progress.loss:.3f}, {rate}")
