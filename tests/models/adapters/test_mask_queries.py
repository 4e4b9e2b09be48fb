"""Networks of masks and their classes at sides of any size, against transformers' own processing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from pipeline import models
from pipeline.logits import softmax
from pipeline.models import Inference, Predictor
from pipeline.models.preprocessing import resized
from pipeline.refine import Argmax, refine_in_tiles
from tests.helpers.hugging_face import balance, own_mask, put, shares

FAMILIES = ["mask2former", "maskformer", "oneformer"]
BY_EDGE = {"shortest_edge": 70, "longest_edge": 100}


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(data.coffee()).resize((width, height)))


@pytest.mark.parametrize("size", [BY_EDGE, {"height": 70, "width": 93}])
@pytest.mark.parametrize("sides", [(120, 160), (161, 97)])
@pytest.mark.parametrize("family", FAMILIES)
def test_masks_of_sides_that_32_does_not_divide_are_those_of_its_own_processing(
    family: str, sides: tuple[int, int], size: dict[str, int], tmp_path: Path
) -> None:
    """The rest of the pixels lies where shares are almost equal: logarithms are interpolated, in float16."""
    theirs, processor = put(tmp_path, family, size=size)
    image = picture(*sides)
    balance(tmp_path, theirs, processor, image)
    expected, found = own_mask(theirs, processor, image)
    assert (np.bincount(expected.ravel()) >= 0.01 * expected.size).sum() >= 3
    ours = models.load(str(tmp_path))
    [grid] = Predictor(ours, Inference(precision="float32")).logits([image])
    assert np.abs(softmax(grid) - shares(found).numpy()).max() <= 2e-3
    assert (refine_in_tiles(image, grid, ours.geometry, Argmax()).mask == expected).mean() >= 0.9


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("mask2former", {}),
        ("maskformer", {}),
        ("oneformer", {}),
        ("mask2former", {"size_divisor": 24}),
        ("maskformer", {"size_divisor": 0}),
        ("oneformer", {"size_divisor": 32}),  # which it does not know
    ],
)
@pytest.mark.parametrize("size", [BY_EDGE, {"shortest_edge": 64, "longest_edge": 96}, {"height": 70, "width": 93}])
def test_the_picture_that_the_network_sees_is_that_of_its_own_processing(
    family: str, settings: dict[str, int], size: dict[str, int], tmp_path: Path
) -> None:
    _, processor = put(tmp_path, family, size=size)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | settings))
    images = getattr(processor, "image_processor", processor)
    images = type(images).from_pretrained(tmp_path, **{"class_info_file": None} if family == "oneformer" else {})
    ours = models.load(str(tmp_path))
    assert ours.step == 1  # nothing is padded
    for sides in ((120, 160), (161, 97), (7, 90), (96, 96)):
        image = picture(*sides)
        seen = ours.preprocess(resized(image, ours.geometry.resize))
        torch.testing.assert_close(seen, images(images=image, return_tensors="pt")["pixel_values"][0])
