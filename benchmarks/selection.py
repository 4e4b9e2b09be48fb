"""Is a network better for labelling what a rule selects than as many random images? `python -m benchmarks.selection`.

Needs CamVid, in the layout of the SegNet tutorial. The learner is small, so that many repetitions fit on a CPU core: a
linear classifier on features of an ImageNet backbone that stays as it is. It begins with some labelled frames, predicts
the others, and a rule of jobs/select_images.py chooses those that are labelled too, up to a third of all. Prints one
table: the mean IoU in percent on val, over repetitions that begin with other frames, and how much each rule is above
as many random frames in the same repetition.
"""

import csv
import io
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import mean, stdev
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from benchmarks.table import markdown
from pipeline import images, masks, models, storage
from pipeline.cli import parse
from pipeline.data.labelled.camvid import LABELS
from pipeline.errors import PipelineError
from pipeline.exports.selection import By, SelectConfig, select
from pipeline.masks import DatasetInfo
from pipeline.metrics import SegmentationScore
from pipeline.models.preprocessing import preprocess
from pipeline.storage import Uri

RULES = [rule for rule in get_args(By) if rule != "disagreement"]  # the learner has no refiner
COLUMNS = ("labelled", "mean IoU", "spread", "above random", "spread", "better in")
HEIGHT, WIDTH, STRIDE = 181, 241, 8
IGNORED = 255
STEPS, BATCH = 250, 2048


@dataclass(frozen=True, kw_only=True)
class SelectionBenchmark:
    """Compare rules of selection with chance.

    Args:
        data: folder of CamVid.
        first: frames that are labelled to begin with.
        repeat: times, each with other first frames.
    """

    data: Uri
    first: int = 40
    repeat: int = 10


@dataclass(frozen=True)
class Frames:
    """Frames by name: features (N, P, D) float32 and labels (N, P) uint8 at the P points of a grid."""

    names: list[str]
    features: Tensor
    labels: NDArray[np.uint8]

    def of(self, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Give the features (M, D) and labels (M,) of all labelled points of some frames."""
        chosen = [self.names.index(name) for name in names]
        labels = torch.from_numpy(self.labels[chosen]).long().ravel()
        known = labels != IGNORED
        return self.features[chosen].flatten(0, 1)[known], labels[known]


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(SelectionBenchmark, "Selection against chance on CamVid.", argv)
        train, val = (read(config.data, split) for split in ("train", "val"))
        third = len(train.names) // 3
        print(f"{config.first} frames to begin with, {third} of {len(train.names)} in the end, {config.repeat} times\n")
        print(markdown(COLUMNS, measure(config, train, val, third)))
    except PipelineError as error:
        print(f"selection: {error}", file=sys.stderr)
        return 1
    return 0


def read(data: str, split: str) -> Frames:
    """Compute the features of a split; labels are those of the pixels that the grid's points are centred on."""
    network = models.build("light", LABELS.classes, name="features", backbone_weights="efficientnet-lite0-imagenet")
    network.eval()
    names, features, labels = [], [], []
    for entry in sorted(storage.list_files(storage.join(data, split)), key=lambda entry: entry.key):
        picture, mask = images.decode(storage.read_bytes(entry.uri)), storage.join(data, f"{split}annot", entry.key)
        small = np.array(Image.fromarray(picture).resize((WIDTH, HEIGHT), Image.Resampling.BOX))
        with Image.open(io.BytesIO(storage.read_bytes(mask))) as image:
            grid = np.array(image.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST))[::STRIDE, ::STRIDE]
        features.append(_features(network, small, grid.shape))
        labels.append(np.where(grid == LABELS.void, IGNORED, grid).astype(np.uint8).ravel())
        names.append(entry.key)
    stacked = torch.stack(features)
    return Frames(names, stacked, np.stack(labels))


@torch.inference_mode()
def _features(network: models.SegmentationModel, picture: NDArray[np.uint8], grid: tuple[int, ...]) -> Tensor:
    """Give the features (P, D) of a picture at the points of a grid (h, w), of all strides together."""
    padded = np.pad(picture, ((0, -(HEIGHT - 1) % 32), (0, -(WIDTH - 1) % 32), (0, 0)), "edge")
    levels = network.backbone(preprocess(padded, network.card.preprocessing)[None])
    whole = [(side - 1) // STRIDE + 1 for side in padded.shape[:2]]
    resized = [nn.functional.interpolate(level, whole, mode="bilinear", align_corners=True) for level in levels]
    return torch.cat(resized, 1)[0, :, : grid[0], : grid[1]].flatten(1).T.contiguous()


def measure(config: SelectionBenchmark, train: Frames, val: Frames, third: int) -> list[list[str]]:
    """Repeat with all rules and with chance; gives a row of the table for each."""
    scores: dict[str, list[float]] = {}
    for seed in range(config.repeat):
        order = np.random.default_rng(seed).permutation(train.names).tolist()
        first, rest = order[: config.first], order[config.first :]
        begun = fit(train, first, seed)
        chosen = {rule: selected(train, rest, begun, rule, third - config.first) for rule in RULES}
        chosen["random"] = rest[: third - config.first]
        for rule, names in chosen.items():
            scores.setdefault(rule, []).append(score(val, fit(train, [*first, *names], seed)))
        latest = ", ".join(f"{rule} {values[-1]:.2f}" for rule, values in scores.items())
        print(f"repetition {seed + 1}: {latest}", file=sys.stderr, flush=True)
    return [_row(rule, scores[rule], scores["random"]) for rule in scores]


def _row(rule: str, scores: Sequence[float], chance: Sequence[float]) -> list[str]:
    above = [score - random for score, random in zip(scores, chance, strict=True)]
    wins = f"{sum(one > 0 for one in above)} of {len(above)}"
    return [rule, f"{mean(scores):.2f}", f"{stdev(scores):.2f}", f"{mean(above):+.2f}", f"{stdev(above):.2f}", wins]


def fit(frames: Frames, names: Sequence[str], seed: int) -> nn.Module:
    """Fit a linear classifier to the labelled points of some frames."""
    torch.manual_seed(seed)
    features, labels = frames.of(names)
    model = nn.Sequential(
        nn.BatchNorm1d(features.shape[1], affine=False), nn.Linear(features.shape[1], len(LABELS.classes))
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.01, STEPS)
    for _ in range(STEPS):
        batch = torch.randint(len(labels), (BATCH,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(features[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def score(frames: Frames, model: nn.Module) -> float:
    """Compute the mean IoU in percent."""
    total = SegmentationScore(len(LABELS.classes))
    for features, labels in zip(frames.features, frames.labels, strict=True):
        total.update(labels, model(features).argmax(1).numpy().astype(np.uint8))
    return 100 * total.mean_iou


@torch.inference_mode()
def selected(frames: Frames, names: Sequence[str], model: nn.Module, rule: str, count: int) -> list[str]:
    """Predict some frames into an output, and select there."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [_predicted(frames, name, model) for name in names]
        info = DatasetInfo(
            classes=LABELS.classes,
            palette=LABELS.palette or (),
            model="linear",
            model_digest="",
            crf=None,
            generation="linear",
            run_id="run",
            created=datetime.now(UTC).isoformat(),
        )
        table = pa.Table.from_pylist(rows, masks.MASKS_SCHEMA.with_metadata(info.to_metadata()))
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        storage.put_whole(f"{folder}/masks/run-00000.parquet", buffer.getvalue())
        select(SelectConfig(output=Uri(folder), count=count, by=rule, to=Uri(f"{folder}/list.csv")))  # type: ignore[arg-type]
        return [line["key"] for line in csv.DictReader(io.StringIO(storage.read_bytes(f"{folder}/list.csv").decode()))]


def _predicted(frames: Frames, name: str, model: nn.Module) -> dict[str, object]:
    best, labels = model(frames.features[frames.names.index(name)]).softmax(1).max(1)
    mask = labels.numpy().astype(np.uint8)[None]
    classes = [
        {"id": label, "pixels": int((labels == label).sum()), "confidence": float(best[labels == label].mean())}
        for label in labels.unique().tolist()
    ]
    png = {"bytes": masks.encode(mask, LABELS.palette or ()), "path": None}
    size = {"height": 1, "width": mask.size}
    return {"key": name, "version": "", "mask": png, "confidence": float(best.mean()), "classes": classes, **size}


if __name__ == "__main__":
    sys.exit(main())
