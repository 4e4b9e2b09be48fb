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
from pipeline.errors import ConfigError, WeightsError
from pipeline.models import Inference, Predictor
from pipeline.models.adapters.smp import recognises
from pipeline.models.ready import folded
from pipeline.models.smp_config import SmpConfig
from pipeline.refine import Argmax, refine_in_tiles
from tests.helpers.same_logits import assert_same_logits

try:
    import segmentation_models_pytorch as smp
except (ImportError, RuntimeError):  # RuntimeError: a torchvision of CUDA beside a torch without it
    smp = None

needs_smp = pytest.mark.skipif(smp is None, reason="segmentation_models_pytorch cannot be imported here")
SIZE = (96, 128)


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


def mask_of(place: str, flags: SmpConfig | None = None) -> NDArray[np.uint8]:
    ours = models.load(place, smp=flags)
    assert ours.adapter == "smp"
    [grid] = Predictor(ours, Inference(precision="float32")).logits([picture()])
    return refine_in_tiles(picture(), grid, ours.geometry, Argmax()).mask


@needs_smp
@pytest.mark.parametrize("architecture", ["DeepLabV3Plus", "DeepLabV3", "Unet", "FPN"])
def test_folders_of_save_pretrained(architecture: str, tmp_path: Path) -> None:
    model = network(architecture)
    model.save_pretrained(tmp_path / "net")
    ours = models.load(str(tmp_path / "net"))
    assert ours.classes == ("class_0", "class_1", "class_2")
    assert ours.geometry.stride == 1
    assert (mask_of(str(tmp_path / "net")) == expected(model)).mean() >= 0.999
    (tmp_path / "net" / "card.json").write_text(json.dumps({"classes": ["a", "b", "c"]}))
    assert models.load(str(tmp_path / "net")).classes == ("a", "b", "c")


@needs_smp
def test_logits_of_many_classes_are_kept_at_a_coarser_stride(tmp_path: Path) -> None:
    model = network("DeepLabV3Plus", classes=21)
    model.save_pretrained(tmp_path / "net")
    assert models.load(str(tmp_path / "net")).geometry.stride == 2
    assert (mask_of(str(tmp_path / "net")) == expected(model)).mean() >= 0.97


@needs_smp
def test_a_vision_transformer_and_what_training_adds_to_a_head(tmp_path: Path) -> None:
    """A DPT, whose decoder takes more than features; an activation and a head for whole pictures are left out."""
    torch.manual_seed(0)
    own = smp.DPT(
        "tu-vit_tiny_patch16_224.augreg_in21k",
        encoder_weights=None,
        dynamic_img_size=True,
        classes=2,
        activation="softmax2d",
        aux_params={"classes": 5},
    ).eval()
    own.save_pretrained(tmp_path / "net")
    batch = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        masks, _ = own(batch)
        assert_same_logits(models.load(str(tmp_path / "net"))(batch).softmax(dim=1), masks, relative=1e-4)


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
    with pytest.raises(WeightsError, match=r"do not fit the network: .* missing \(.*encoder"):
        models.load(f"{tmp_path}/net.pth", smp=SmpConfig(architecture="DeepLabV3Plus", encoder_name="resnet34"))
    (tmp_path / "net.json").write_text(json.dumps(card | {"architecture": "DeepLabV9"}))
    with pytest.raises(WeightsError, match=r"smp has no architecture 'DeepLabV9'; it has .*DeepLabV3Plus, "):
        models.load(f"{tmp_path}/net.pth")
    (tmp_path / "net.json").write_text(json.dumps(card | {"classes": ["a", "b", "c"]}))
    with pytest.raises(WeightsError, match="it has 1 outputs, and its card names 3 classes"):
        models.load(f"{tmp_path}/net.pth")


@needs_smp
def test_a_card_says_what_else_the_network_was_made_with(tmp_path: Path) -> None:
    made = {"decoder_channels": [64, 48, 32, 32, 16], "decoder_attention_type": "scse", "encoder_depth": 5}
    model = network("Unet", **made)
    torch.save(model.state_dict(), tmp_path / "net.pth")
    card = {"architecture": "Unet", "encoder_name": "resnet18", "classes": ["a", "b", "c"]}
    (tmp_path / "net.json").write_text(json.dumps(card | {"arguments": made | {"decoder_interpolation": "nearest"}}))
    assert (mask_of(f"{tmp_path}/net.pth") == expected(model)).mean() >= 0.999
    (tmp_path / "net.json").write_text(json.dumps(card | {"arguments": {"decoder_size": 3}}))
    with pytest.raises(WeightsError, match=r"do not fit the network|smp cannot build Unet: .*decoder_size"):
        models.load(f"{tmp_path}/net.pth")


@needs_smp
def test_state_dicts_of_what_flags_name(tmp_path: Path) -> None:
    model = network("FPN", classes=3)
    torch.save(model.state_dict(), tmp_path / "net.pth")
    flags = SmpConfig(architecture="FPN", encoder_name="resnet18")
    (tmp_path / "net.json").write_text('{"epochs": 7, "encoder_name": "resnet34"}')  # not a card; the flags say it
    named = models.load(f"{tmp_path}/net.pth", ["a", "b", "c"], flags)
    assert (named.network, named.classes) == ("smp FPN", ("a", "b", "c"))
    assert models.load(f"{tmp_path}/net.pth", smp=flags).classes == ("class_0", "class_1", "class_2")
    assert (mask_of(f"{tmp_path}/net.pth", flags) == expected(model)).mean() >= 0.999
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"has the keys encoder.*segmentation_head.*, and this one conv.weight"):
        models.load(f"{tmp_path}/net.pth", smp=flags)
    torch.save({"segmentation_head.0.weight": Path("/")}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"holds an object pathlib\S*, and to read that could run code"):
        models.load(f"{tmp_path}/net.pth", smp=flags)


@needs_smp
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_name": "tu-hf-hub:someone/something"}, "none is fetched from elsewhere"),
        ({"encoder_name": "nothing"}, "smp cannot build Unet: .*Wrong encoder name"),
        ({"in_channels": 4}, "do not fit the network"),
        ({"classes": 0}, "it has 0 classes; masks can hold 2 to 256"),
        ({"_model_class": "__import__"}, "smp has no architecture '__import__'"),
    ],
)
def test_what_a_folder_says_wrongly_is_refused_in_a_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    network("Unet").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(json.loads((tmp_path / "config.json").read_bytes()) | change))
    with pytest.raises(WeightsError, match=message) as refused:
        models.load(str(tmp_path))
    assert "\n" not in str(refused.value)


@needs_smp
def test_weights_that_are_missing_damaged_or_pickled_are_refused_in_a_line(tmp_path: Path) -> None:
    network("Unet").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    for content in (weights.read_bytes()[:1000], b"\x80\x02cos\nsystem\n(X\x04\0\0\0echotR."):
        weights.write_bytes(content)
        with pytest.raises(WeightsError, match=r"model.safetensors is damaged: [^\n]*$"):
            models.load(str(tmp_path))
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="weights that are pickled are not read"):
        models.load(str(tmp_path))


def test_flags_are_for_state_dicts_alone() -> None:
    flags = SmpConfig(architecture="Unet", encoder_name="resnet18")
    with pytest.raises(ConfigError, match=r"for a state dict, FILE.pth or FILE.pt, and the model is street; leave it"):
        models.load("street", smp=flags)
    with pytest.raises(ConfigError, match=r"smp.architecture is Unet and smp.encoder_name None; give both"):
        SmpConfig(architecture="Unet")


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
