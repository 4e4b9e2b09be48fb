"""Train the built-in model on generated scenes and export it: `python jobs/train_scenes.py --output URI`.

The command resumes where it was stopped; no scene serves in two steps. The last line of stdout is one JSON object.
With the defaults it takes about 40 minutes on one CPU core and ends near the scores in the built-in model's card.
"""

import dataclasses
import functools
import json
import sys
import time
from dataclasses import dataclass

import torch

from pipeline import models, storage
from pipeline.cli import parse
from pipeline.errors import ConfigError, PipelineError
from pipeline.metrics import SegmentationScore
from pipeline.models import ARCHITECTURES
from pipeline.models.checkpoints import native
from pipeline.refine.crf import CRFParams, DenseCRF
from pipeline.runtime.lock import Lock, held, put_checked
from pipeline.scenes import CLASSES, scene
from pipeline.storage import Uri
from pipeline.training import Recipe, StepResult, train
from pipeline.training.augment import Pixels
from pipeline.training.examples import batches

ARCHITECTURE = "deeplabv2-efficientnet-lite0-aspp"
BACKBONE_WEIGHTS = "efficientnet-lite0-imagenet"
VALIDATION_SEEDS = 950_000
TRAINING_SEEDS = 1_000_000
"""Training draws the scenes from this seed up, validation from VALIDATION_SEEDS up; smaller seeds are for others."""

CRF = CRFParams(gaussian_weight=1, gaussian_xy=1, bilateral_weight=12, bilateral_xy=80, bilateral_rgb=8)
"""The best of a coarse search on 20 scenes from seed 900000 up, which are in neither training nor validation."""

RECIPE = Recipe(
    iterations=900,
    batch=6,
    crop=193,
    base_lr=4e-3,
    head_weight_lr=0.3,
    head_bias_lr=0.6,
    clip_norm=10.0,
    scale_min=0.75,
    checkpoint_every=30,
)
"""Chosen in short trials. The backbone ends without a ReLU: on its large features the head wants a low rate."""


@dataclass(frozen=True, kw_only=True)
class TrainScenes:
    """Train the light network on generated scenes, and export weights and card.

    Args:
        output: URI of a folder for NAME.safetensors, NAME.json and the checkpoint.
        name: of the model.
        recipe: how it is trained.
        validation: held-out scenes that the card's scores are measured on.
        crf: parameters of the refinement, for the card and its scores.
        machine: what the training ran on and for how long, for the card.
    """

    output: Uri
    name: str = "scenes"
    recipe: Recipe = RECIPE
    validation: int = 100
    crf: CRFParams = CRF
    machine: str = "not noted"

    def __post_init__(self) -> None:
        self.recipe.check_crop(ARCHITECTURES[ARCHITECTURE].stride)
        if self.validation < 1:
            raise ConfigError(f"validation is {self.validation}; the card's scores need at least 1 held-out scene")


def run(config: TrainScenes) -> dict[str, float | int | str]:
    """Train, measure and export; returns the summary. Raises RunError where another run trains there."""
    with held(Lock(output=config.output)) as lock:
        return _run(config, lock)


def _run(config: TrainScenes, lock: Lock) -> dict[str, float | int | str]:
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
        source=f"python jobs/train_scenes.py, {config.recipe.iterations} steps; machine and time: {config.machine}",
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


def validate(model: models.SegmentationModel, config: TrainScenes) -> dict[str, float]:
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
        print(f"step {progress.step}: loss {progress.loss:.3f}, {rate}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print the summary; returns the exit code: 2 for what cannot be used, 1 for what went wrong."""
    try:
        print(json.dumps(run(parse(TrainScenes, "Train the built-in model on generated scenes.", argv))))
    except PipelineError as error:
        print(f"train_scenes: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
