"""SegmentationModel: preprocessing, padding and probabilities."""

import dataclasses

import numpy as np
import pytest
import torch

from pipeline import models
from pipeline.errors import ConfigError, ModelError
from pipeline.masks import pascal_palette
from pipeline.models import Preprocessing, SegmentationModel
from pipeline.models.preprocessing import (
    CAFFE_PREPROCESSING,
    IMAGENET_PREPROCESSING,
    LITE_PREPROCESSING,
    pad,
    preprocess,
)

RED_ON_BLUE = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)  # one row: a red pixel, then a blue one


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 37, 3), np.uint8)


@pytest.mark.parametrize(
    ("how", "red", "blue"),
    [
        (CAFFE_PREPROCESSING, (-104.008, -116.669, 255 - 122.675), (255 - 104.008, -116.669, -122.675)),
        (
            IMAGENET_PREPROCESSING,
            ((1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225),
            (-0.485 / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225),
        ),
        (LITE_PREPROCESSING, (1.0, -127 / 128, -127 / 128), (-127 / 128, -127 / 128, 1.0)),
    ],
)
def test_preprocessing(how: Preprocessing, red: tuple[float, ...], blue: tuple[float, ...]) -> None:
    """Caffe: BGR from 0 to 255 minus the mean. torchvision: RGB / 255, ImageNet's mean and deviation."""
    planes = preprocess(RED_ON_BLUE, how)
    assert planes.dtype == torch.float32
    torch.testing.assert_close(planes, torch.tensor([red, blue]).T.reshape(3, 1, 2))


def test_any_view_of_an_image_will_do(image: np.ndarray) -> None:
    read_only = image.copy()
    read_only.flags.writeable = False
    expected = preprocess(image, CAFFE_PREPROCESSING)
    torch.testing.assert_close(preprocess(read_only, CAFFE_PREPROCESSING), expected)
    turned = preprocess(np.asfortranarray(image)[::-1], CAFFE_PREPROCESSING)
    torch.testing.assert_close(turned, expected.flip(1))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_other_images_are_refused(model: SegmentationModel, wrong: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"\(H, W, 3\) uint8"):
        model.preprocess(wrong)


def test_padding_is_the_mean_colour(model: SegmentationModel, image: np.ndarray) -> None:
    """Zeros after preprocessing are the mean before it, at the bottom and the right."""
    grey = np.full((1, 1, 3), 127, np.uint8)  # this network's mean
    padded = pad(model.preprocess(image), 32)
    assert padded.shape == (3, 65, 65)
    by_hand = np.broadcast_to(grey, (65, 65, 3)).copy()
    by_hand[:50, :37] = image
    torch.testing.assert_close(padded, model.preprocess(by_hand))


def test_probabilities(model: SegmentationModel, image: np.ndarray) -> None:
    """Softmax of the logits, bilinear between grid points 8 pixels apart."""
    probabilities = model.probabilities(image)
    assert probabilities.shape == (3, 50, 37)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(0), 1, rtol=1e-5)
    with torch.inference_mode():
        logits = model(pad(model.preprocess(image), 8)[None])
        full = torch.nn.functional.interpolate(logits, (57, 41), mode="bilinear", align_corners=True)
    np.testing.assert_allclose(probabilities, full[0, :, :50, :37].softmax(0).numpy(), atol=1e-5)


def test_default_palette_is_pascal(model: SegmentationModel) -> None:
    np.testing.assert_array_equal(model.palette, pascal_palette(3))
    assert model.palette.dtype == np.uint8


def test_cards_are_checked(model: SegmentationModel) -> None:
    with pytest.raises(ConfigError, match="257"):
        models.build("deeplabv2-efficientnet-lite0-aspp", [str(i) for i in range(257)])
    with pytest.raises(ConfigError, match="scales"):
        dataclasses.replace(model.card, scales=())
    for std in (0, float("nan")):
        with pytest.raises(ConfigError, match="std"):
            Preprocessing(channels="RGB", mean=(0, 0, 0), std=(1, std, 1))
