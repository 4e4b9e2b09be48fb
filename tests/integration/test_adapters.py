"""The main job with networks of other frameworks, over CamVid's frames on S3, against the frameworks' own pipelines."""

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch.nn import functional

from pipeline import masks, storage
from tests.helpers import hugging_face, onnx_files
from tests.helpers.random_weights import torchvision_deeplabv3_state
from tests.helpers.reference_networks import BLOCKS, torchvision_deeplabv3
from tests.helpers.segmenting import rows, summary

try:
    import segmentation_models_pytorch as smp
except (ImportError, RuntimeError):  # RuntimeError: a torchvision of CUDA beside a torch without it
    smp = None

FRAMES = Path(__file__).parents[3] / "shared" / "data" / "camvid" / "val"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

Picture = NDArray[np.uint8]
Own = Callable[[Picture], Picture]
"""The framework's own processing: a picture in, its mask out."""


def pictures() -> dict[str, Picture]:
    """Two of CamVid's frames, a third as wide and high; photographs where there are none."""
    frames = [Image.open(path).convert("RGB").reduce(3) for path in sorted(FRAMES.glob("*.png"))[:2]]
    found = frames or [Image.fromarray(photo).resize((160, 120)) for photo in (data.coffee(), data.rocket())]
    return {f"{number}.png": np.asarray(picture) for number, picture in enumerate(found)}


def of_transformers(folder: Path, family: str) -> tuple[str, Own]:
    model, processor = hugging_face.put(folder, family)
    return str(folder), lambda image: hugging_face.own_mask(model, processor, image)[0]


def of_onnx(folder: Path) -> tuple[str, Own]:
    def own(image: Picture) -> Picture:
        height, width = image.shape[:2]
        return onnx_files.by_torch(image).argmax(dim=0)[:height, :width].numpy().astype(np.uint8)  # type: ignore[no-any-return]

    return onnx_files.put(folder, onnx_files.graph()), own


def of_torchvision(folder: Path) -> tuple[str, Own]:
    """A DeepLabV3 fine-tuned to two classes, stored as training scripts do; it sees pictures of sides 8 m + 1."""
    state = torchvision_deeplabv3_state("resnet50", classes=2)
    folder.mkdir()
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, folder / "network.pth")

    def own(image: Picture) -> Picture:
        height, width = image.shape[:2]
        padded = functional.pad(normalised(image), (0, (1 - width) % 8, 0, (1 - height) % 8))
        with torch.inference_mode():
            logits = torchvision_deeplabv3(state, padded, BLOCKS["resnet50"])
        full = functional.interpolate(logits, padded.shape[-2:], mode="bilinear", align_corners=True)
        return full[0].argmax(dim=0)[:height, :width].numpy().astype(np.uint8)  # type: ignore[no-any-return]

    return f"{folder}/network.pth", own


def of_smp(folder: Path) -> tuple[str, Own]:
    torch.manual_seed(0)
    model = smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=3).eval()
    torch.nn.init.normal_(model.segmentation_head[0].weight, std=1)
    folder.mkdir()
    torch.save(model.state_dict(), folder / "network.pth")
    card = {"architecture": "DeepLabV3Plus", "encoder_name": "resnet18", "classes": ["a", "b", "c"]}
    (folder / "network.json").write_text(json.dumps(card))

    def own(image: Picture) -> Picture:
        height, width = image.shape[:2]
        with torch.inference_mode():
            logits = model(functional.pad(normalised(image), (0, -width % 32, 0, -height % 32)))
        return logits[0].argmax(dim=0)[:height, :width].numpy().astype(np.uint8)  # type: ignore[no-any-return]

    return f"{folder}/network.pth", own


def normalised(image: Picture) -> torch.Tensor:
    return ((torch.from_numpy(image.copy()) / 255 - MEAN) / STD).permute(2, 0, 1)[None]


IN_PASSING = {"upernet", "maskformer", "mask2former", "oneformer"}
"""They interpolate once more than is done here; see the adapters' own tests."""

NETWORKS = [
    *(
        pytest.param("hf", family, partial(of_transformers, family=family), marks=() if quick else pytest.mark.long)
        for family in hugging_face.FAMILIES
        for quick in [family == "segformer"]
    ),
    pytest.param("onnx", "onnx", of_onnx),
    pytest.param("none", "torchvision", of_torchvision),
    pytest.param("smp", "smp", of_smp, marks=pytest.mark.skipif(smp is None, reason="smp cannot be imported here")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("adapter", "family", "put"), NETWORKS)
@pytest.mark.usefixtures("cluster")
def test_masks_are_those_of_the_framework(
    adapter: str, family: str, put: Callable[[Path], tuple[str, Own]], bucket: str, tmp_path: Path
) -> None:
    model, own = put(tmp_path / "network")
    images = pictures()
    for name, image in images.items():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        storage.put_whole(f"{bucket}/in/{name}", buffer.getvalue())
    flags = (f"--input={bucket}/in", f"--output={bucket}/out", f"--model={model}", "--inference.precision=float32")
    done = summary(*flags, "--refine.backend=none")
    assert (done["segmented"], done["adapter"]) == (len(images), adapter)
    found = dict(masks.read(f"{bucket}/out"))
    for name, image in images.items():
        assert (found[name] == own(image)).mean() >= (0.99 if family in IN_PASSING else 0.999)
    [note] = masks.generations(f"{bucket}/out")
    assert note.adapter == adapter
    if family == "segformer":
        refined = summary(*flags, "--confidence-map")
        assert (refined["segmented"], refined["generation"] != done["generation"]) == (len(images), True)
        confidence = {row["key"]: row["confidence"] for row in rows(f"{bucket}/out", "masks") if row["confidence_map"]}
        maps = dict(masks.read_confidence(f"{bucket}/out"))
        assert {name: maps[name].shape for name in confidence} == {k: image.shape[:2] for k, image in images.items()}
        assert {key: values.mean() / 255 for key, values in maps.items()} == pytest.approx(confidence, abs=0.5 / 255)
        assert not masks.verify(f"{bucket}/out").problems
