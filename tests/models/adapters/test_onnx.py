"""ONNX files against the same operators in PyTorch, and files that are refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from PIL import Image
from skimage import data
from torch.nn import functional

from pipeline import models
from pipeline.errors import WeightsError
from pipeline.models import Inference, Predictor
from pipeline.refine import Argmax, refine_in_tiles
from tests.helpers.onnx_files import CLASSES, by_onnxruntime, by_torch, convolutions, corners, graph, lightness, put

SIZE = (90, 130)


def picture() -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(data.coffee()).resize(SIZE[::-1]))


def mask_of(place: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    network = models.load(place)
    assert (network.adapter, network.classes) == ("onnx", CLASSES)
    [grid] = Predictor(network, Inference(precision="float32")).logits([image])
    return refine_in_tiles(image, grid, network.geometry, Argmax()).mask


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_masks_are_those_of_the_same_operators(channels_last: bool, full: bool, tmp_path: Path) -> None:
    image = picture()
    expected = by_torch(image).argmax(dim=0)[: SIZE[0], : SIZE[1]].numpy()
    place = put(tmp_path, graph(channels_last=channels_last, full=full))
    assert models.load(place).geometry.stride == (1 if full else 4)
    assert (mask_of(place, image) == expected).mean() >= 0.999


def test_logits_of_every_pixel_of_many_classes_are_kept_at_a_coarser_stride(tmp_path: Path) -> None:
    image, names = picture(), [f"class {number}" for number in range(50)]
    network = models.load(put(tmp_path, graph(full=True, classes=50), classes=names, step=2))
    assert (network.geometry.stride, network.step) == (4, 4)
    [grid] = Predictor(network, Inference(precision="float32")).logits([image])
    mask = refine_in_tiles(image, grid, network.geometry, Argmax()).mask
    expected = by_torch(image, classes=50).argmax(dim=0)[: SIZE[0], : SIZE[1]].numpy()
    assert (mask == expected).mean() >= 0.93


@pytest.mark.parametrize("fixed", [False, True])
def test_pictures_are_resized_to_fixed_sides(fixed: bool, tmp_path: Path) -> None:
    image, sides = picture(), (64, 96)
    place = put(tmp_path, graph(sides=sides)) if fixed else put(tmp_path, graph(), resize=sides)
    small = np.asarray(Image.fromarray(image).resize(sides[::-1], Image.Resampling.BILINEAR))
    logits = by_torch(small)[:, 1::4, 1::4]  # not the grid itself, but this many
    assert models.load(place).geometry.grid(*SIZE) == logits.shape[1:]
    stretched = functional.interpolate(by_torch(small)[None], size=SIZE, mode="bilinear", align_corners=False)
    assert (mask_of(place, image) == stretched[0].argmax(dim=0).numpy()).mean() >= 0.98


def as_the_framework_would(place: str, image: NDArray[np.uint8], sides: tuple[int, int]) -> NDArray[np.int64]:
    """The file's labels of a picture that is resized before, and whose logits are stretched over it again."""
    small = np.asarray(Image.fromarray(image).resize(sides[::-1], Image.Resampling.BILINEAR))
    size = image.shape[:2]
    full = functional.interpolate(by_onnxruntime(place, small)[None], size=size, mode="bilinear", align_corners=False)
    return full[0].argmax(dim=0).numpy()


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    """A picture that becomes lighter to the right."""
    return np.broadcast_to(np.linspace(0, 255, width).round()[None, :, None], (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("width", [66, 67, 68])
def test_logits_of_every_fourth_pixel_stay_where_they_are_whatever_the_side(width: int, tmp_path: Path) -> None:
    """Labels are steps of lightness; at the end of a stretched grid they were two pixels off."""
    sides, names = (8, width), [f"class {number}" for number in range(50)]
    place = put(tmp_path, lightness(sides, 50), classes=names)
    image = ramp(16, 2 * width)
    network = models.load(place)
    assert network.geometry.over(16, 2 * width).strides == (8, 8)
    [grid] = Predictor(network, Inference(precision="float32")).logits([image])
    mask = refine_in_tiles(image, grid, network.geometry, Argmax()).mask
    away = mask.astype(int) - as_the_framework_would(place, image, sides)
    assert abs(away[:, -12:-4].mean()) <= 0.25


@pytest.mark.parametrize("sides", [(100, 100), (104, 100), (99, 121)])
def test_sides_that_the_stride_does_not_divide_are_rounded_up_as_padded_convolutions_do(
    sides: tuple[int, int], tmp_path: Path
) -> None:
    image, place = picture(), put(tmp_path, convolutions(sides))
    network = models.load(place)
    assert network.geometry.grid(*SIZE) == (13, -(-sides[1] // 8))
    assert (mask_of(place, image) == as_the_framework_would(place, image, sides)).mean() >= 0.999


@pytest.mark.parametrize("sides", [(66, 66), (64, 66), (66, 64)])
def test_sides_of_which_pixels_are_left_over_are_refused(sides: tuple[int, int], tmp_path: Path) -> None:
    message = refusal(put(tmp_path, graph(sides=sides)))
    assert f"16x16 logits for {sides[0]}x{sides[1]} pixels are on no grid of one stride; at one of 4 pixels" in message


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("classes", [3, 50])
def test_aligned_logits_of_every_pixel_are_those_of_the_file(classes: int, fixed: bool, tmp_path: Path) -> None:
    sides, names = (65, 129), [f"class {number}" for number in range(classes)]
    model = corners(classes, sides) if fixed else corners(classes)
    place = put(tmp_path, model, classes=names, origin="aligned", step=8)
    image = np.asarray(Image.fromarray(picture()).resize(sides[::-1]))
    network = models.load(place)
    assert (network.geometry.origin, network.geometry.stride) == ("aligned", 1 if classes == 3 else 4)
    [grid] = Predictor(network, Inference(precision="float32")).logits([image])
    mask = refine_in_tiles(image, grid, network.geometry, Argmax()).mask
    assert (mask == by_onnxruntime(place, image).argmax(dim=0).numpy()).mean() >= 0.998


def test_one_logit_is_two_classes_and_large_pictures_go_through_in_tiles(tmp_path: Path) -> None:
    network = models.load(put(tmp_path, graph(classes=1), classes=["rest", "road"]))
    image = picture()
    expected = by_torch(image, classes=1)[0, : SIZE[0], : SIZE[1]].numpy() > 0
    for tile in (1024, 96):
        [grid] = Predictor(network, Inference(precision="float32", tile=tile, overlap=32)).logits([image])
        assert not grid[0].any()
        mask = refine_in_tiles(image, grid, network.geometry, Argmax()).mask
        assert (mask == expected).mean() >= 0.999


def test_it_is_sent_to_other_processes(tmp_path: Path) -> None:
    network = models.load(put(tmp_path, graph()))
    copy = pickle.loads(pickle.dumps(network))
    batch = torch.rand(2, 3, 32, 64)
    torch.testing.assert_close(copy(batch), network(batch))
    assert copy.digest == network.digest
    assert network.digest != models.load(put(tmp_path, graph(), mean=[0.0, 0.0, 0.0])).digest


def refusal(place: str) -> str:
    with pytest.raises(WeightsError) as refused:
        models.load(place)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_card_that_is_missing_or_says_less_is_told_with_an_example(tmp_path: Path) -> None:
    place = put(tmp_path, graph())
    (tmp_path / "network.json").write_text(json.dumps({"classes": ["a", "b", "c"]}))
    assert 'card has no field \'channels\'; for example {"classes": ["background", ' in refusal(place)
    (tmp_path / "network.json").unlink()
    assert "an ONNX file needs its card beside it: " in refusal(place)


@pytest.mark.parametrize(
    ("model", "card", "message"),
    [
        ({}, {"classes": ["a", "b"]}, "and its card names 2 classes"),
        ({"argmax": True}, {}, "gives tensor(int64); it must take and give floats"),
        ({}, {"step": 0}, "step is 0"),
        ({}, {"mean": [1.0]}, "card.mean is [1.0]"),
        ({}, {"origin": "middle"}, "card.origin is 'middle'"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(
    model: dict[str, Any], card: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert message in refusal(put(tmp_path, graph(**model), **card))


@pytest.mark.parametrize("content", [b"", b"\x80\x02cos\nsystem\n(X\x04\0\0\0echotR.", b"{}", bytes(100)])
def test_a_file_that_is_none_is_refused_in_a_line(content: bytes, tmp_path: Path) -> None:
    place = put(tmp_path, graph())
    (tmp_path / "network.onnx").write_bytes(content)
    assert refusal(place).startswith(f"{place}: ")


@pytest.mark.parametrize("location", ["../weights", "/etc/passwd", "a/../../b", "..\\b"])
def test_weights_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    model = graph()
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.ClearField("raw_data")
    assert "outside its folder; a model keeps to its own folder" in refusal(put(tmp_path, model))


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    place = put(tmp_path, graph())
    onnx.save(graph(), place, save_as_external_data=True, location="network.data", size_threshold=0)
    expected = by_torch(picture()).argmax(dim=0)[: SIZE[0], : SIZE[1]].numpy()
    assert (mask_of(place, picture()) == expected).mean() >= 0.999
    (tmp_path / "network.data").unlink()
    assert "its weights cannot be read" in refusal(place)
