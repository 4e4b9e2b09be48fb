"""How long do the stages take on one CPU core, with each kind of network? `python -m benchmarks.stages`.

Prints one table, a row a network: milliseconds an image of the SegmentStage, from the encoded picture to logits, and of
the RefineStage without a CRF, whose time does not depend on the network; medians over rounds in which all take turns,
after a first round. Beside them stand the output stride, and the size of the logits that travel between the stages.
Weights are random, built from configurations and stored as their users store them.
"""

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import pyarrow as pa
import torch

from benchmarks.crf_pictures import photographs, resized
from benchmarks.on_gpu.pictures import jpeg
from benchmarks.table import markdown, number
from pipeline import models
from pipeline.batch.refine_stage import RefineStage
from pipeline.batch.segment_stage import SegmentStage, load_predictor
from pipeline.batch.tracker import LocalTracker
from pipeline.cli import parse
from pipeline.data import rows
from pipeline.errors import ConfigError, PipelineError
from pipeline.models import Inference, Network
from pipeline.models.checkpoints import native
from pipeline.refine import Argmax

COLUMNS = ("network", "adapter", "stride", "segment, ms", "min", "max", "logits, KiB", "argmax, ms", "min", "max")
CLASSES = tuple(f"class_{number}" for number in range(21))
OWN = ("light", "deeplabv3plus-mobilenet-v2", "deeplabv3plus-resnet50", "deeplabv3-resnet101", "resnet101-aspp")


def of_this_project(folder: Path, name: str) -> str:
    """Store an untrained network of this project."""
    native.save(models.build(name, CLASSES), f"{folder}/network.safetensors")
    return f"{folder}/network.safetensors"


def segformer(folder: Path) -> str:
    """Store a SegFormer of the smallest published size, B0, which sees pictures in 512x512."""
    import transformers

    transformers.SegformerForSemanticSegmentation(
        transformers.SegformerConfig(num_labels=len(CLASSES))
    ).save_pretrained(folder)
    transformers.SegformerImageProcessorPil(size={"height": 512, "width": 512}).save_pretrained(folder)
    return str(folder)


def mobilenet_v2(folder: Path) -> str:
    """Store a DeepLab v3 on MobileNetV2 as on the hub, which sees pictures with a shorter side of 513."""
    import transformers

    config = transformers.MobileNetV2Config(num_labels=len(CLASSES), output_stride=16)
    transformers.MobileNetV2ForSemanticSegmentation(config).save_pretrained(folder)
    processor = transformers.MobileNetV2ImageProcessorPil(size={"shortest_edge": 513}, do_center_crop=False)
    processor.save_pretrained(folder)
    return str(folder)


def exported(folder: Path) -> str:
    """Store this project's light network as an ONNX file of fixed sides, 385 and 513, with a card."""
    network = models.build("light", CLASSES).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is traced for these sides alone
        torch.onnx.export(network, (torch.zeros(1, 3, 385, 513),), f"{folder}/network.onnx", dynamo=False)
    how = network.card.preprocessing
    card = {"classes": CLASSES, "mean": how.mean, "std": how.std, "channels": how.channels, "origin": "aligned"}
    (folder / "network.json").write_text(json.dumps(card))
    return f"{folder}/network.onnx"


def of_smp(folder: Path) -> str:
    """Store smp's DeepLab v3+ on ResNet-50."""
    import segmentation_models_pytorch

    network = segmentation_models_pytorch.DeepLabV3Plus("resnet50", encoder_weights=None, classes=len(CLASSES))
    network.save_pretrained(folder)
    return str(folder)


NETWORKS: dict[str, Callable[[Path], str]] = {
    **{name: partial(of_this_project, name=name) for name in OWN},
    "hf: SegFormer-B0": segformer,
    "hf: DeepLabV3 MobileNetV2": mobilenet_v2,
    "onnx: light": exported,
    "smp: DeepLabV3Plus resnet50": of_smp,
}


@dataclass(frozen=True, kw_only=True)
class StagesBenchmark:
    """Measure the stages with each kind of network on one CPU core.

    Args:
        networks: names, as the table has them; all by default.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        rounds: in which each network runs once, after a first round.
    """

    networks: tuple[str, ...] = tuple(NETWORKS)
    height: int = 375
    width: int = 500
    rounds: int = 5

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be measured."""
        if min(self.rounds, self.height, self.width) < 1:
            raise ConfigError(f"rounds {self.rounds}, height {self.height} and width {self.width} must be at least 1")
        if unknown := [name for name in self.networks if name not in NETWORKS]:
            raise ConfigError(f"no network {unknown[0]!r}; choose from: {', '.join(NETWORKS)}")


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Hold both stages with a network."""

    network: Network
    segment: SegmentStage
    refine: RefineStage

    @classmethod
    def of(cls, network: Network, pixels: int) -> "Stages":
        """Make the stages for pictures of at most so many pixels."""
        return cls(
            network=network,
            segment=SegmentStage(partial(load_predictor, network, Inference()), pixels, LocalTracker()),
            refine=RefineStage(Argmax(), network.classes, network.palette, network.geometry, pixels, LocalTracker()),
        )


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    try:
        config = parse(StagesBenchmark, "Milliseconds of the stages on a CPU core, by network.", argv)
        torch.set_num_threads(1)
        print(f"{config.width}x{config.height} pixels, {config.rounds} rounds\n")
        print(markdown(COLUMNS, measure(config)))
    except PipelineError as error:
        print(f"stages: {error}", file=sys.stderr)
        return 1
    return 0


def measure(config: StagesBenchmark) -> list[tuple[str, ...]]:
    """Measure a row for each network; what cannot be imported here is said, and left out."""
    picture = jpeg(resized(photographs()["china"], config.height, config.width))
    batch = rows.table([{"key": "china", "source": "china", "version": "1", "image": picture}], rows.FETCHED)
    stages = {name: made for name in config.networks if (made := _made(name, config.height * config.width))}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in stages}
    kibibytes: dict[str, float] = {}
    for _ in range(1 + config.rounds):
        for name, both in stages.items():
            logits, segment = _timed(both.segment, batch)
            _, argmax = _timed(both.refine, logits)
            times[name].append((segment, argmax))
            kibibytes[name] = len(logits["logits"][0].as_py()) / 1024
    return [
        (
            name,
            both.network.adapter,
            str(both.network.geometry.stride),
            *_spread([segment for segment, _ in times[name][1:]]),
            number(kibibytes[name]),
            *_spread([argmax for _, argmax in times[name][1:]]),
        )
        for name, both in stages.items()
    ]


def _made(name: str, pixels: int) -> Stages | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Stages.of(models.load(NETWORKS[name](Path(folder))), pixels)
        except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of CUDA beside a torch without it
            print(f"without {name}: {' '.join(str(error).split())[:200]}")
            return None


def _timed(stage: Callable[[pa.Table], Iterable[pa.Table]], batch: pa.Table) -> tuple[pa.Table, float]:
    """Run a stage; returns what it gives, and its milliseconds. Raises PipelineError where the image failed."""
    started = time.perf_counter()
    done = pa.concat_tables(stage(batch))
    milliseconds = 1e3 * (time.perf_counter() - started)
    if done["error"][0].is_valid:
        raise PipelineError(f"{done['stage'][0]}: {done['message'][0]}")
    return done, milliseconds


def _spread(values: list[float]) -> tuple[str, str, str]:
    """Format median, least and most."""
    return number(median(values)), number(min(values)), number(max(values))


if __name__ == "__main__":
    sys.exit(main())
