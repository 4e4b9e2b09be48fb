"""Train by a recipe in one process, without Ray, for a limited time: `python -m benchmarks.train_alone RECIPE`.

For a GPU that is there for minutes. RECIPE is what jobs/train.py takes as --config. It begins with a few steps that are
thrown away, to see how many fit into the time, and shortens the recipe to these; the same command goes on with what is
below OUTPUT, with the steps that were chosen then. Every --save-seconds there are a checkpoint and the weights as they
are by then, averaged where the recipe says so. The last line is a JSON object.

It needs PyTorch, NumPy, Pillow, pyarrow, fsspec, PyYAML and safetensors.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.recipe_file import read_config
from pipeline import storage
from pipeline.data.formats.format import Pair
from pipeline.data.labelled import labels, list_pairs
from pipeline.data.labelled.pairs import Pixels, decode, fetch
from pipeline.data.labelled.sense import check_classes, check_drawn_on
from pipeline.errors import ConfigError, PipelineError
from pipeline.labels import Labels
from pipeline.models.checkpoints import native
from pipeline.models.deeplab import SegmentationModel
from pipeline.models.preprocessing import Preprocessing
from pipeline.training.beginning import check_apart, untrained
from pipeline.training.checkpoints import Checkpoint, Checkpoints
from pipeline.training.config import TrainConfig
from pipeline.training.examples import collate, example, share, shuffled
from pipeline.training.loop import StepResult, put_result, train
from pipeline.training.loss import class_weights
from pipeline.training.recipe import Recipe
from pipeline.training.settings import SETTINGS_FILE, go_on_with, settings
from pipeline.training.validation import mean_iou

TRIED = 25
"""Steps that tell how long one takes; the first few, which compile and choose kernels, do not count."""

_UNCOUNTED = 5
_SPARE = 0.92
"""Share of the time that is left which steps may take: checkpoints and scoring take some as well."""

_AHEAD = 4  # batches

_ITERATIONS = "iterations"  # the file of the steps that were chosen, which the training is gone on with


@dataclass(frozen=True)
class Pictures:
    """The pairs of a split, decoded, in memory; the pixels of each class."""

    pairs: list[tuple[Pixels, Pixels]]
    pixels: list[int]

    @classmethod
    def read(cls, listed: Sequence[Pair], what: Labels, split: str) -> "Pictures":
        """Read pairs, and say what is odd about all of a split. Raises ConfigError for what cannot be used, by name."""
        rows = fetch(listed, what).to_pylist()
        for row in rows:
            if row["problem"]:
                raise ConfigError(f"{row['key']}: {row['problem']}")
        pixels = [sum(counts) for counts in zip(*(row["pixels"] for row in rows), strict=True)]
        turned = [(row["key"], row["drawn_on"]) for row in rows if row["drawn_on"]]
        pictures = f"the split {split!r}"
        for line in check_drawn_on(turned, pictures) + check_classes(pixels, what, pictures):
            _tell(line)
        return cls([decode(row["image"], row["mask"], what) for row in rows], pixels)

    def batches(self, how: Preprocessing, recipe: Recipe, start: int, threads: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the recipe's batches from step `start` on, made on threads, some of them ahead."""

        def sample(draw: int) -> tuple[Pixels, Pixels]:
            return self.pairs[shuffled(draw, len(self.pairs), recipe.seed)]

        with ThreadPoolExecutor(threads) as makers:
            ahead: deque[list[Future[tuple[Pixels, Pixels]]]] = deque()
            for step in range(start, recipe.iterations):
                ahead.append([makers.submit(example, sample, draw, how, recipe) for draw in share(step, recipe)])
                if len(ahead) > _AHEAD:
                    yield collate([made.result() for made in ahead.popleft()], how)
            while ahead:
                yield collate([made.result() for made in ahead.popleft()], how)


def main(argv: Sequence[str] | None = None) -> int:
    """Train and print; returns the exit code."""
    began = time.monotonic()
    options = _parser().parse_args(argv)
    try:
        print(json.dumps(run(options, began)))
    except PipelineError as error:
        print(f"train_alone: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace, began: float) -> dict[str, Any]:
    """Train, export the weights with the best score, and give the figures. Raises PipelineError."""
    config = _config(options)
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(options.threads)
    what = labels(config.data_format, config.classes)
    listed = partial(list_pairs, config.data, config.data_format, columns=config.columns, tell=_tell)
    pairs = listed(config.split)
    validation = config.validation_split
    scored_pairs = listed(validation) if validation else []
    check_apart(config, pairs, scored_pairs)
    chosen = settings(config, what, pairs, scored_pairs)
    checkpoints = Checkpoints(folder=config.output, check=lambda: None)
    newest = _newest(checkpoints, chosen)
    training = Pictures.read(pairs, what, config.split)
    scored = Pictures.read(scored_pairs, what, validation) if validation else None
    model = _untrained(config, what, options.device)
    weights = class_weights(training.pixels, config.recipe.class_balance).to(options.device)
    if newest:
        recipe = dataclasses.replace(config.recipe, iterations=_noted_iterations(config.output))
    else:
        recipe = _shortened(config.recipe, options, began, model, training, weights)
        storage.put_whole(storage.join(config.output, SETTINGS_FILE), chosen)
        storage.put_whole(storage.join(config.output, _ITERATIONS), str(recipe.iterations).encode())
    saver = Saver(
        model=model,
        recipe=recipe,
        scored=scored,
        checkpoints=checkpoints,
        uri=storage.join(config.output, f"{config.name}{native.SUFFIX}"),
        every=options.save_seconds,
        first=newest.note.step if newest else 0,
    )
    if newest:
        _tell(f"continuing at step {newest.note.step}")
    train(
        model,
        lambda start: training.batches(model.card.preprocessing, recipe, start, options.loaders),
        recipe,
        class_weights=weights,
        checkpoint=newest.state if newest else None,
        on_checkpoint=saver.on_checkpoint,
        on_step=saver.on_step,
        must_save=saver.must_save,
    )
    return saver.finish() | {"iterations": recipe.iterations, "seconds": round(time.monotonic() - began, 1)}


@dataclass(kw_only=True)
class Saver:
    """Put checkpoints and weights while a model is trained.

    Attributes:
        scored: what checkpoints of the recipe are scored on; None to score none.
        uri: of the weights.
        every: seconds between checkpoints.
        first: the step that the training began with.
    """

    model: SegmentationModel
    recipe: Recipe
    scored: Pictures | None
    checkpoints: Checkpoints
    uri: str
    every: float
    first: int
    _losses: list[float] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _saved: float = field(default_factory=time.monotonic)

    def on_step(self, done: StepResult) -> None:
        """Note a step's loss."""
        self._losses.append(done.loss)
        if done.step % 50 == 0:
            _tell(f"step {done.step} of {self.recipe.iterations}: loss {self._loss:.4f}")

    def must_save(self, _: int) -> bool:
        """Tell whether the last checkpoint is long ago."""
        return time.monotonic() - self._saved > self.every

    def on_checkpoint(self, state: bytes) -> None:
        """Score the network where the recipe has a checkpoint, and put the state and the weights."""
        step = self.first + len(self._losses)
        is_due = step % self.recipe.checkpoint_every == 0 or step == self.recipe.iterations
        score = mean_iou(self.model, self.scored.pairs) if self.scored and is_due else None
        self.checkpoints.put(state, step=step, loss=self._loss, mean_iou=score)
        native.save(self.model, self.uri, half=True)
        _tell(f"step {step}: checkpoint" + ("" if score is None else f", mean IoU {100 * score:.2f}"))
        self._saved = time.monotonic()

    def finish(self) -> dict[str, Any]:
        """Put the weights of the best checkpoint; give figures."""
        seconds = time.monotonic() - self._began
        best = self.checkpoints.best(_tell)
        assert best is not None  # the last step is followed by one
        put_result(best.state, self.model)
        native.save(self.model, self.uri, half=True)
        return {
            "weights": storage.redact(self.uri),
            "best_step": best.note.step,
            "mean_iou": None if best.note.mean_iou is None else round(100 * best.note.mean_iou, 2),
            "steps_per_second": round(len(self._losses) / seconds, 3),
        }

    @property
    def _loss(self) -> float:
        return sum(self._losses) / len(self._losses)


def _config(options: argparse.Namespace) -> TrainConfig:
    """Read the recipe, with what the flags change. Raises PipelineError."""
    names = ("data", "output", "data_format", "split", "validation_split", "init")
    return read_config(options.recipe, {name: getattr(options, name) for name in names})


def _newest(checkpoints: Checkpoints, chosen: bytes) -> Checkpoint | None:
    """Read the newest checkpoint. Raises ConfigError where it is not of a training with the settings `chosen`."""
    output, anew = storage.redact(checkpoints.folder), "another --output to train anew"
    go_on_with(checkpoints.folder, chosen, f"the training at {output}", anew)
    newest = checkpoints.newest(_tell)
    if newest and not storage.exists(storage.join(checkpoints.folder, SETTINGS_FILE)):
        raise ConfigError(f"{output} has checkpoints of a training that is not known; give {anew}")
    return newest


def _noted_iterations(output: str) -> int:
    noted = storage.join(output, _ITERATIONS)
    try:
        return int(storage.read_bytes(noted))
    except ValueError as error:
        raise ConfigError(
            f"{storage.redact(noted)} is no number of steps; give another --output to train anew"
        ) from error


def _untrained(config: TrainConfig, what: Labels, device: str) -> SegmentationModel:
    model = untrained(config, what)
    model.card = dataclasses.replace(model.card, licence=config.licence, training_split=f"{config.split} of the data")
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def _shortened(
    recipe: Recipe,
    options: argparse.Namespace,
    began: float,
    model: SegmentationModel,
    training: Pictures,
    weights: Tensor,
) -> Recipe:
    """Give the recipe with as many steps as fit into the time. Raises ConfigError where none does."""
    ends: list[float] = []
    tried = dataclasses.replace(recipe, iterations=TRIED, checkpoint_every=TRIED)
    train(
        deepcopy(model),
        lambda start: training.batches(model.card.preprocessing, tried, start, options.loaders),
        tried,
        class_weights=weights,
        on_step=lambda _: ends.append(time.monotonic()),
    )
    seconds = (ends[-1] - ends[_UNCOUNTED]) / (TRIED - 1 - _UNCOUNTED)
    left = options.seconds - (time.monotonic() - began)
    fitting = min(recipe.iterations, int(_SPARE * left / seconds))
    if fitting < 1:
        raise ConfigError(f"a step takes {seconds:.3f} s, and {left:.1f} s are left to take some; give more --seconds")
    _tell(f"a step takes {seconds:.3f} s: {fitting} of the recipe's {recipe.iterations} steps in {left:.0f} s")
    return dataclasses.replace(recipe, iterations=fitting)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train_alone", description=__doc__.split("\n")[0])
    parser.add_argument("recipe", help="a YAML file as jobs/train.py takes it")
    parser.add_argument("--data", required=True, help="folder of the labelled pictures")
    parser.add_argument("--data-format", help="how they lie there; without, as the recipe says")
    parser.add_argument("--split", help="to train on; without, as the recipe says")
    parser.add_argument("--validation-split", help="to score on, null for none; without, as the recipe says")
    parser.add_argument("--init", help="weights that the backbone begins with; without, as the recipe says")
    parser.add_argument("--output", required=True, help="folder for checkpoints and weights")
    parser.add_argument("--seconds", type=float, default=540, help="for all of it")
    parser.add_argument("--save-seconds", type=float, default=120, help="between checkpoints")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--loaders", type=int, default=12, help="threads that decode and augment")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, on a CPU")
    return parser


if __name__ == "__main__":
    sys.exit(main())
