"""Networks of segmentation_models_pytorch against themselves, where it can be imported, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from pipeline import models
from pipeline.errors import WeightsError
from pipeline.models import Inference, Predictor
from pipeline.models.adapters.smp import recognises
from pipeline.models.ready import folded
from pipeline.refine import Argmax, refine_in_tiles
from tests.helpers.same_logits import assert_same_logits

try:
    import segmentation_models_pytorch as smp
except (ImportError, RuntimeError):  # RuntimeError: a torchvision of CUDA beside a torch without it
    smp = None

needs_smp = pytest.mark.skipif(smp is None, reason="segmentation_models_pytorch cannot be imported here")
SIZE = (96, 128)
LEAST = {"DeepLabV3Plus": 0.99, "DeepLabV3": 0.99, "Unet": 0.98}
"""Agreement of pixels: logits of every pixel are brought to every second."""


def picture() -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(data.coffee()).resize(SIZE[::-1]))


def network(architecture: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    model = getattr(smp, architecture)("resnet18", encoder_weights=None, **{"classes": 3} | settings)
    torch.nn.init.normal_(model.segmentation_head[0].weight, std=1)
    return model.eval()


def expected(model: Any) -> NDArray[np.int64]:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (torch.from_numpy(picture().copy()) / 255 - mean) / std
    with torch.inference_mode():
        logits = model(x.permute(2, 0, 1)[None].float())[0]
    return (logits.argmax(dim=0) if len(logits) > 1 else (logits[0] > 0).long()).numpy()


def mask_of(place: str) -> NDArray[np.uint8]:
    ours = models.load(place)
    assert ours.adapter == "smp"
    [grid] = Predictor(ours, Inference(precision="float32")).logits([picture()])
    return refine_in_tiles(picture(), grid, ours.geometry, Argmax()).mask


@needs_smp
@pytest.mark.parametrize("architecture", LEAST)
def test_folders_of_save_pretrained(architecture: str, tmp_path: Path) -> None:
    model = network(architecture)
    model.save_pretrained(tmp_path / "net")
    ours = models.load(str(tmp_path / "net"))
    assert ours.classes == ("class_0", "class_1", "class_2")
    assert ours.geometry.stride == 2
    assert (mask_of(str(tmp_path / "net")) == expected(model)).mean() >= LEAST[architecture]
    (tmp_path / "net" / "card.json").write_text(json.dumps({"classes": ["a", "b", "c"]}))
    assert models.load(str(tmp_path / "net")).classes == ("a", "b", "c")


@needs_smp
def test_batch_normalisation_is_folded(tmp_path: Path) -> None:
    network("DeepLabV3Plus").save_pretrained(tmp_path / "net")
    ours = models.load(str(tmp_path / "net"))
    light = folded(ours)
    kept = [type(layer) for layer in light.modules()].count(torch.nn.BatchNorm2d)
    assert kept == 6  # behind separable convolutions, and in the pooling: chains themselves, or no plain ones
    batch = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert_same_logits(light(batch), ours(batch), relative=1e-4)


@needs_smp
def test_state_dicts_with_a_card(tmp_path: Path) -> None:
    model = network("DeepLabV3Plus", classes=1, encoder_output_stride=8)
    state = {f"module.{key}": value.half() for key, value in model.state_dict().items()}
    torch.save({"model_ema": state | {"n_averaged": torch.tensor(3)}, "epoch": 7}, tmp_path / "net.pth")
    card = {"architecture": "DeepLabV3Plus", "encoder_name": "resnet18", "classes": ["rest", "road"]}
    (tmp_path / "net.json").write_text(json.dumps(card | {"arguments": {"encoder_output_stride": 8}}))
    assert (mask_of(f"{tmp_path}/net.pth") == expected(model)).mean() >= 0.99  # of half precision
    (tmp_path / "net.json").write_text(json.dumps(card | {"architecture": "DeepLabV9"}))
    with pytest.raises(WeightsError, match=r"smp has no architecture 'DeepLabV9'; it has .*DeepLabV3Plus, "):
        models.load(f"{tmp_path}/net.pth")
    (tmp_path / "net.json").write_text(json.dumps(card | {"classes": ["a", "b", "c"]}))
    with pytest.raises(WeightsError, match="it has 1 outputs, and its card names 3 classes"):
        models.load(f"{tmp_path}/net.pth")


def test_what_is_recognised(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "net.pth")
    assert not recognises(f"{tmp_path}/net.pth")
    (tmp_path / "net.json").write_text('{"encoder_name": "resnet18"}')
    assert recognises(f"{tmp_path}/net.pth")
    assert not recognises(str(tmp_path))
    (tmp_path / "config.json").write_text('{"encoder_name": "resnet18"}')
    assert recognises(str(tmp_path))


@pytest.mark.skipif(smp is not None, reason="segmentation_models_pytorch is there")
def test_where_smp_is_missing_the_message_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"encoder_name": "resnet18"}')
    with pytest.raises(WeightsError, match=r"pip install 'deeplab-buckets\[smp\]'"):
        models.load(str(tmp_path))
