"""Networks of transformers against transformers' own processing, and folders that are refused."""

import json
import pickle
import shutil
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch import nn
from transformers import AutoImageProcessor
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.models.dpt.image_processing_pil_dpt import get_resize_output_image_size

from pipeline import models
from pipeline.errors import ConfigError, WeightsError
from pipeline.geometry import Resize
from pipeline.logits import softmax
from pipeline.models import Inference, Predictor
from pipeline.models.adapters.huggingface_processor import preparation_of, preprocessing_of, resize_of
from pipeline.models.ready import folded
from pipeline.refine import Argmax, refine_in_tiles
from tests.helpers.hugging_face import FAMILIES, LABELS, NAMES, SIDES, dpt, own_mask, put
from tests.helpers.same_logits import assert_same_logits

LEAST = {"upernet": 0.99, "maskformer": 0.99, "mask2former": 0.99, "oneformer": 0.99}
"""Agreement of pixels: UPerNet interpolates twice, and the others masks or scores; here it is logarithms of scores."""


def picture(height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(data.coffee()).resize((width, height)))


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "city"
    put(folder, "segformer")
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_are_those_of_the_frameworks_own_processing(family: str, tmp_path: Path) -> None:
    theirs, processor = put(tmp_path / "network", family)
    ours = models.load(str(tmp_path / "network"))
    assert (ours.adapter, ours.network, ours.classes) == ("hf", type(theirs).__name__, tuple(LABELS.values()))
    image = picture()
    expected, found = own_mask(theirs, processor, image)
    [grid] = Predictor(ours, Inference(precision="float32")).logits([image])
    mask = refine_in_tiles(image, grid, ours.geometry, Argmax()).mask
    assert (mask == expected).mean() >= LEAST.get(family, 0.999)
    if family in ("maskformer", "oneformer"):
        images = getattr(processor, "image_processor", processor)
        [scored] = images.post_process_semantic_segmentation(found, return_segmentation_scores=True)
        scores = scored["segmentation_scores"].numpy()
        assert np.abs(softmax(grid) - scores / scores.sum(axis=0)).max() <= 2e-3
    elif family not in LEAST:
        logits = found.logits[0].numpy()
        assert np.abs(grid - logits).max() <= 1e-3 * np.abs(logits).max()


def agreement(folder: Path, theirs: nn.Module, processor: object, image: NDArray[np.uint8]) -> float:
    ours = models.load(str(folder))
    expected, _ = own_mask(theirs, processor, image)
    assert len(np.unique(expected)) > 1
    [grid] = Predictor(ours, Inference(precision="float32")).logits([image])
    mask = refine_in_tiles(image, grid, ours.geometry, Argmax()).mask
    return float((mask == expected).mean())


@pytest.mark.parametrize("size", [(120, 160), (161, 97)])
@pytest.mark.parametrize(
    ("family", "sides", "shape", "least"),
    [
        ("dpt", (80, 80), (96, 96), 0.97),  # by as much as interpolating once more changes
        ("dpt", (70, 70), (96, 96), 0.97),
        ("beit", (70, 70), (16, 16), 0.99),
        ("upernet", (65, 98), (65, 98), 0.97),  # of 16x24
    ],
)
def test_logits_of_more_or_fewer_points_than_strides_are_stretched_as_its_own(
    family: str, sides: tuple[int, int], shape: tuple[int, int], least: float, size: tuple[int, int], tmp_path: Path
) -> None:
    made = dpt(sides[0], patch=14 if sides[0] == 70 else 16) if family == "dpt" else None
    theirs, processor = put(tmp_path, family, made, size={"height": sides[0], "width": sides[1]})
    with torch.inference_mode():
        assert theirs(torch.zeros(1, 3, *sides)).logits.shape[2:] == shape
    assert agreement(tmp_path, theirs, processor, picture(*size)) >= least


def test_logits_of_every_pixel_of_many_classes_lie_on_every_fourth_of_a_side_that_four_does_not_divide(
    tmp_path: Path,
) -> None:
    names = {number: f"label {number}" for number in range(60)}
    made = dpt(98, 14, {"id2label": names, "label2id": {name: number for number, name in names.items()}})
    theirs, processor = put(tmp_path, "dpt", made)
    assert models.load(str(tmp_path)).geometry.over(98, 196).strides == (4, 8)
    assert agreement(tmp_path, theirs, processor, picture()) >= 0.97


def test_a_stride_that_does_not_divide_the_step_of_sides_is_refused_where_nothing_is_resized(tmp_path: Path) -> None:
    """Since tiles would begin between points."""
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16,
        strides=[3, 2, 2, 2], **NAMES,
    )  # fmt: skip
    made = transformers.SegformerForSemanticSegmentation(config), "SegformerImageProcessorPil", {"size": SIDES}
    theirs, processor = put(tmp_path, "segformer", made)
    assert agreement(tmp_path, theirs, processor, picture()) >= 0.999
    settings = tmp_path / "preprocessor_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_bytes()) | {"do_resize": False}))
    with pytest.raises(WeightsError, match="have a stride of 3 pixels, which does not divide 32"):
        models.load(str(tmp_path))


@given(
    height=st.integers(1, 4000), width=st.integers(1, 4000), shortest=st.integers(1, 1000), more=st.integers(0, 2000)
)
def test_sides_by_the_shorter_one_are_those_of_the_framework(height: int, width: int, shortest: int, more: int) -> None:
    for longest in (None, shortest + more):
        rows, columns = get_size_with_aspect_ratio((height, width), shortest, longest)
        expected = max(rows, 1), max(columns, 1)  # there none is, and its own processing fails
        assert Resize(shortest=shortest, longest=longest).of(height, width) == expected


def test_pictures_are_not_resized_where_the_processor_does_not(segformer: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(segformer, tmp_path / "whole")
    settings = json.loads((folder / "preprocessor_config.json").read_bytes())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"do_resize": False}))
    network = models.load(str(folder))
    assert (network.geometry.stride, network.step, network.geometry.resize) == (4, 32, None)
    image = picture(100, 150)
    whole, tiled = (
        Predictor(network, Inference(precision="float32", tile=tile, overlap=64)).logits([image])[0]
        for tile in (1024, 160)
    )
    assert whole.shape == tiled.shape == (4, 25, 38)
    assert network.digest != models.load(str(segformer)).digest


@pytest.mark.parametrize("multiple", [1, 14, 32])
def test_dpts_sides_are_those_of_its_own_processing(multiple: int) -> None:
    settings = {"size": {"height": 480, "width": 500}, "ensure_multiple_of": multiple, "size_divisor": 48}
    rule = resize_of({"do_resize": True, **settings}, "dpt")  # the divisor is what it pads to, and it pads nothing
    theirs = get_resize_output_image_size(np.zeros((3, 37, 50)), (480, 500), keep_aspect_ratio=False, multiple=multiple)
    assert rule is not None
    assert rule.of(37, 50) == (theirs.height, theirs.width)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep_aspect_ratio": True, "ensure_multiple_of": 16}, "has keep_aspect_ratio, .*; set it to false"),
        ({"do_resize": False}, "must give a size of one number"),
        ({"size": {"height": 64, "width": 96}}, "must give a size of one number"),
    ],
)
def test_a_dpt_that_would_see_what_is_not_square_is_refused_as_its_own_network_fails(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    theirs, _ = put(tmp_path, "dpt")
    settings = tmp_path / "preprocessor_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_bytes()) | change))
    with pytest.raises(WeightsError, match=message):
        models.load(str(tmp_path))
    with pytest.raises(RuntimeError, match="is invalid for input of size"):
        own_mask(theirs, AutoImageProcessor.from_pretrained(tmp_path, backend="pil"), picture())


def test_it_is_sent_to_other_processes(segformer: Path) -> None:
    network = models.load(str(segformer))
    batch = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        expected = network(batch)
        copy = pickle.loads(cloudpickle.dumps(network))
        assert_same_logits(copy(batch), expected, relative=1e-5)  # sums depend on where weights lie in memory
    for one, other in zip(copy.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert (copy.digest, copy.geometry, copy.classes) == (network.digest, network.geometry, network.classes)
    assert not copy.training


@pytest.mark.parametrize(("family", "left"), [("segformer", 0), ("mobilenet_v2", 0), ("mobilevit", 0), ("upernet", 0)])
def test_batch_normalisation_is_folded(family: str, left: int, tmp_path: Path) -> None:
    put(tmp_path / "network", family)
    network = models.load(str(tmp_path / "network"))
    light = folded(network)
    kept, before = ([type(layer) for layer in one.modules()].count(nn.BatchNorm2d) for one in (light, network))
    assert before > kept == left
    batch = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert_same_logits(light(batch), network(batch), relative=1e-4)


def test_other_names_change_nothing_else(segformer: Path) -> None:
    named, other = models.load(str(segformer)), models.load(str(segformer), classes=("a", "b", "c", "d"))
    assert (other.classes, other.digest) == (("a", "b", "c", "d"), named.digest)
    with pytest.raises(ConfigError, match="2 classes are named, and city has 4"):
        models.load(str(segformer), classes=("a", "b"))


def test_one_scale_alone(segformer: Path) -> None:
    with pytest.raises(ConfigError, match=r"city runs at one scale alone, not at \(0.5, 1.0\)"):
        Predictor(models.load(str(segformer)), Inference(scales=(0.5, 1.0)))


DAMAGES = {
    "code": ("config.json", {"auto_map": {"AutoModel": "run.py"}}, "asks to run code that the model brings"),
    "preparing code": ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "run.Of"}}, "asks to run code"),
    "family": ("config.json", {"model_type": "bert"}, "model_type 'bert', which is none of the families known: segf"),
    "classifier": ("config.json", {"architectures": ["BeitForImageClassification"]}, "which does not segment"),
    "architectures": ("config.json", {"architectures": 5}, "says architectures 5; it must be a list of names"),
    "labels": ("config.json", {"id2label": dict.fromkeys("0124", "a")}, "does not name every class in id2label"),
    "depth": ("config.json", {"depths": [2, 1, 1, 1]}, "its weights lack "),
    "size": ("preprocessor_config.json", {"size": {"width": 3}}, "preprocessor_config.json"),
    "small": (
        "preprocessor_config.json",
        {"size": 20},
        r"a picture of 20x20: .*; change the size in preprocessor_conf",
    ),
    "factor": (
        "preprocessor_config.json",
        {"rescale_factor": None},
        r"preprocessor_config.json: rescale_factor is None",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_a_folder_says_wrongly_is_refused_in_a_line(name: str, segformer: Path, tmp_path: Path) -> None:
    file, change, message = DAMAGES[name]
    folder = shutil.copytree(segformer, tmp_path / "bad")
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_bytes()) | change))
    with pytest.raises(WeightsError, match=message) as refused:
        models.load(str(folder))
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(folder))


def test_files_that_are_missing_pickled_or_elsewhere_are_named(segformer: Path, tmp_path: Path) -> None:
    def refusal() -> str:
        with pytest.raises(WeightsError) as refused:
            models.load(str(folder))
        assert "\n" not in str(refused.value)
        return str(refused.value)

    folder = shutil.copytree(segformer, tmp_path / "bad")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "preprocessor_config.json").rename(folder / "kept")
    assert "has no preprocessor_config.json" in refusal()
    (folder / "kept").rename(folder / "preprocessor_config.json")
    (folder / "model.safetensors").write_bytes(weights[:1000])
    assert "transformers cannot load it" in refusal()
    (folder / "model.safetensors").write_bytes(b"\x80\x02cos\nsystem\n(X\x04\0\0\0echotR.")
    assert "transformers cannot load it" in refusal()
    (folder / "model.safetensors").unlink()
    assert "it has no model.safetensors" in refusal()
    torch.save({}, folder / "pytorch_model.bin")
    assert "a pickle can run code and is not read" in refusal()
    for name, message in (
        ("../other.safetensors", "outside it"),
        ("part.safetensors", "which is not there"),
        ("x" * 300, "which is not there"),
    ):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        assert message in refusal()


def test_a_name_is_found_in_the_cache_where_there_is_no_network(
    segformer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's own client lays it out below HF_HOME."""
    kept = tmp_path / "models--someone--city"
    shutil.copytree(segformer, kept / "snapshots" / "1f2e")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("1f2e")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    network = models.load("hf:someone/city")
    assert (network.card.name, network.digest) == ("someone/city", models.load(str(segformer)).digest)


def test_a_name_that_is_not_in_the_cache_is_said_where_there_is_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="hf:nobody/nothing cannot be fetched, and is not in the cache"):
        models.load("hf:nobody/nothing")
    with pytest.raises(WeightsError, match="is no name on the hub; it is hf:ORG/NAME"):
        models.load("hf:a/b/c")


def test_preprocessing_and_sizes_as_processors_note_them() -> None:
    how = preprocessing_of({"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3})
    assert how.mean == pytest.approx((127.5,) * 3)
    assert how.std == pytest.approx((63.75,) * 3)
    assert preprocessing_of({"do_normalize": True, "image_mean": 0.5, "image_std": 0.25}) == how
    assert preprocessing_of({"do_flip_channel_order": True}).channels == "BGR"
    edges = {"shortest_edge": 256, "longest_edge": 300}
    by_edge = resize_of({"do_resize": True, "size": edges, "resample": 3}, "segformer")
    assert by_edge is not None
    assert (by_edge.of(100, 200), by_edge.resample) == ((150, 300), 3)
    older = resize_of({"do_resize": True, "size": 512, "resample": "bilinear"}, "segformer")
    assert older is not None
    assert (older.sides, older.resample) == ((512, 512), 2)
    assert resize_of({"do_resize": False, "size": 512}, "segformer") is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rescale_factor", None, "it must be a finite number"),
        ("rescale_factor", float("nan"), "it must be a finite number"),
        ("rescale_factor", 0, "it must be above 0"),
        ("image_mean", None, "it must be a list"),
        ("image_mean", [0.5, "a", 0.5], ""),
        ("image_std", [0.5], "it must have 3 values"),
        ("resample", None, "it must be a whole number"),
        ("resample", "bicubic", "it must be a whole number"),
        ("resample", 99, "it must be a filter of Pillow, from 0 to 5"),
        ("size", {"shortest_edge": "64"}, ""),
        ("size", {"height": 64.5, "width": 64}, ""),
        ("size", True, ""),
        ("size_divisor", "abc", "it must be a whole number"),
        ("size_divisor", [1], "it must be a whole number"),
        ("pad_size", {"height": 128, "width": 128}, "and pictures are not padded here; remove it"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(name: str, value: object, message: str) -> None:
    how = {"do_resize": True, "do_normalize": True, "size": 64, "image_mean": 0.5, "image_std": 0.5}
    with pytest.raises(WeightsError, match=rf"^preprocessor_config.json: {name}.* is .*{message}"):
        preparation_of(how | {name: value}, "mask2former")


def test_a_dpt_that_would_pad_is_refused() -> None:
    with pytest.raises(WeightsError, match="pads to size_divisor 48, which is not done here; set do_pad to false"):
        preparation_of({"do_resize": True, "size": 64, "do_pad": True, "size_divisor": 48}, "dpt")
