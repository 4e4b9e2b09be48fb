"""The Predictor: batches of equal shapes, tiles, scales, precision."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline import models
from pipeline.batch.steps import each
from pipeline.errors import ConfigError, ModelError
from pipeline.geometry import Resize, aligned
from pipeline.logits import grid_size
from pipeline.models import Inference, Predictor, SegmentationModel
from pipeline.models.predictor import CPU_PASS_PIXELS
from pipeline.models.preprocessing import Image, pad

REACH = 8 + 8 * 2  # pixels around its own that a logit of `near_sighted` depends on


class OneLevel(nn.Sequential):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (super().forward(x),)


class OnOneLevel(nn.Conv2d):
    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        return super().forward(features[0])


@pytest.fixture(scope="module")
def near_sighted() -> SegmentationModel:
    """A real network at stride 8 whose logits depend on few pixels, so that tiles and whole can agree exactly."""
    torch.manual_seed(0)
    model = models.build("deeplabv2-efficientnet-lite0-aspp", ["a", "b", "c"])
    model.backbone = OneLevel(nn.Conv2d(3, 16, 17, stride=8, padding=8), nn.ReLU())
    model.head = OnOneLevel(16, 3, 3, padding=2, dilation=2)
    return model.eval()


def picture(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@contextmanager
def batches(predictor: Predictor) -> Iterator[list[torch.Size]]:
    """Fills with the shape of each batch that the network sees."""
    seen: list[torch.Size] = []
    hook = predictor.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    yield seen
    hook.remove()


def close(logits: NDArray[np.float16], expected: NDArray[np.float16]) -> None:
    assert logits.dtype == np.float16
    np.testing.assert_allclose(logits.astype(np.float32), expected.astype(np.float32), rtol=2e-3, atol=2e-3)


FLOAT32 = Inference(precision="float32")


def test_logits_are_the_networks(model: SegmentationModel) -> None:
    image = picture(50, 37)
    (logits,) = Predictor(model, FLOAT32).logits([image])
    assert logits.shape == (3, 8, 6)
    with torch.inference_mode():
        expected = model(pad(model.preprocess(image), 8)[None])[0]
    close(logits, expected.half().numpy())


def test_equal_shapes_share_a_batch_and_keep_their_order(model: SegmentationModel) -> None:
    sizes = [(41, 33), (65, 33), (37, 30), (41, 33), (65, 33), (1, 1)]
    images = [picture(*size, seed) for seed, size in enumerate(sizes)]
    predictor = Predictor(model, FLOAT32)
    alone = [predictor.logits([image])[0] for image in images]
    with batches(predictor) as seen:
        together = predictor.logits(images)
    assert seen == [(3, 3, 41, 33), (2, 3, 65, 33), (1, 3, 1, 1)]
    for size, one, other in zip(sizes, alone, together, strict=True):
        assert other.shape == (3, grid_size(size[0], 8), grid_size(size[1], 8))
        close(other, one)


def test_a_read_only_image_is_left_alone(model: SegmentationModel) -> None:
    image = picture(40, 40)
    before = image.copy()
    image.flags.writeable = False
    Predictor(model, FLOAT32).logits([image])
    np.testing.assert_array_equal(image, before)


def test_a_pass_is_bounded(near_sighted: SegmentationModel) -> None:
    """However many pictures there are; one alone may be as large as a tile."""
    images = [picture(257, 257)] * 9 + [picture(600, 600)] * 2
    predictor = Predictor(near_sighted, FLOAT32)
    with batches(predictor) as seen:
        predictor.logits(images)
    assert seen == [(3, 3, 257, 257)] * 3 + [(1, 3, 601, 601)] * 2


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 0.75, 1.0)])
@pytest.mark.parametrize("size", [(400, 300), (129, 1000), (513, 513)])
def test_tiles_agree_with_the_whole(
    near_sighted: SegmentationModel, size: tuple[int, int], scales: tuple[float, ...]
) -> None:
    """Wherever a tile has seen all that a logit depends on, which here is everywhere."""
    overlap = 4 * REACH  # at half scale the network sees twice as far, and half an overlap is each tile's own
    image = picture(*size)
    whole = Predictor(near_sighted, Inference(scales=scales, tile=1025, overlap=overlap, precision="float32"))
    tiled = Predictor(near_sighted, Inference(scales=scales, tile=257, overlap=overlap, precision="float32"))
    with batches(whole) as seen:
        (expected,) = whole.logits([image])
    assert len(seen) == len(scales)
    with batches(tiled) as seen:
        (logits,) = tiled.logits([image])
    assert max(max(shape[2:]) for shape in seen) <= 257
    assert max(shape[0] * shape[2] * shape[3] for shape in seen) <= CPU_PASS_PIXELS
    close(logits, expected)


def test_one_tile_is_the_whole(model: SegmentationModel) -> None:
    image = picture(100, 120)
    predictors = [Predictor(model, Inference(tile=tile, overlap=32, precision="float32")) for tile in (121, 1025)]
    np.testing.assert_array_equal(*(predictor.logits([image])[0] for predictor in predictors))


def test_tiles_of_several_pictures_share_a_batch(near_sighted: SegmentationModel) -> None:
    predictor = Predictor(near_sighted, Inference(tile=129, overlap=64, precision="float32"))
    long, other, short = picture(33, 200), picture(33, 200, seed=1), picture(33, 100)
    with batches(predictor) as seen:
        together = predictor.logits([long, other, short])
    assert seen == [(6, 3, 33, 113), (1, 3, 33, 105)]  # three tiles for each of the long ones
    for image, logits in zip((long, other, short), together, strict=True):
        close(logits, predictor.logits([image])[0])


def test_scales_come_from_the_card_unless_given(near_sighted: SegmentationModel) -> None:
    image = picture(60, 60)
    card = near_sighted.card
    near_sighted.card = dataclasses.replace(card, scales=(0.5, 0.75, 1.0))
    by_card = Predictor(near_sighted, FLOAT32).logits([image])[0]
    probabilities = near_sighted.probabilities(image)
    single = Predictor(near_sighted, Inference(scales=(1.0,), precision="float32")).logits([image])[0]
    near_sighted.card = card
    assert by_card.shape == single.shape == (3, 9, 9)
    close(single, Predictor(near_sighted, FLOAT32).logits([image])[0])
    close(by_card, Predictor(near_sighted, Inference(scales=(0.5, 0.75, 1.0), precision="float32")).logits([image])[0])
    assert (by_card >= single - 1e-3).mean() > 0.95  # a maximum over scales; only the padding differs
    logits = torch.from_numpy(by_card.astype(np.float32))[None]
    full = torch.nn.functional.interpolate(logits, (65, 65), mode="bilinear", align_corners=True)[0, :, :60, :60]
    np.testing.assert_allclose(probabilities, full.softmax(0).numpy(), atol=2e-3)


def test_scales_are_fused_as_the_card_says(near_sighted: SegmentationModel) -> None:
    image, card = picture(65, 65), near_sighted.card
    single, half = (
        Predictor(near_sighted, Inference(scales=(scale,), precision="float32")).logits([image])[0]
        for scale in (1.0, 0.5)
    )
    near_sighted.card = dataclasses.replace(card, scales=(1.0, 0.5), fusion="mean")
    fused, probabilities = Predictor(near_sighted, FLOAT32).logits([image])[0], near_sighted.probabilities(image)
    near_sighted.card = card
    posteriors = [torch.from_numpy(logits.astype(np.float32)).softmax(0) for logits in (single, half, fused)]
    torch.testing.assert_close(posteriors[2], (posteriors[0] + posteriors[1]) / 2, rtol=0, atol=2e-3)
    np.testing.assert_allclose(probabilities[:, ::8, ::8], posteriors[2].numpy(), atol=2e-3)


def test_flip(near_sighted: SegmentationModel) -> None:
    image = picture(33, 65)
    predictor = Predictor(near_sighted, Inference(flip=True, precision="float32"))
    there, back = predictor.logits([image, np.ascontiguousarray(image[:, ::-1])])
    close(there, back[:, :, ::-1])


def test_bfloat16_is_close(model: SegmentationModel) -> None:
    image = picture(33, 33)
    exact, rough = (
        Predictor(model, Inference(precision=precision)).logits([image])[0].astype(np.float32)
        for precision in ("float32", "bfloat16")
    )
    assert 0 < np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("capabilities", "gains"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True, "avx512_f": True}, False), ({}, False)],
)
def test_bfloat16_is_taken_where_the_processor_multiplies_it(
    near_sighted: SegmentationModel, monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], gains: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert Predictor(near_sighted, Inference()).dtype == (torch.bfloat16 if gains else torch.float32)
    assert Predictor(near_sighted, Inference(precision="bfloat16")).dtype == torch.bfloat16
    assert Predictor(near_sighted, Inference(precision="float32")).dtype == torch.float32


def test_logits_saturate(near_sighted: SegmentationModel) -> None:
    with torch.no_grad():
        bias: Tensor = near_sighted.head.bias
        before = bias.clone()
        bias += torch.tensor([1e6, -1e6, 0])
    (logits,) = Predictor(near_sighted, FLOAT32).logits([picture(33, 33)])
    with torch.no_grad():
        bias.copy_(before)
    assert (logits[0] == 65504).all()
    assert (logits[1] == -65504).all()
    assert np.isfinite(logits).all()


def test_nothing_in_nothing_out(model: SegmentationModel) -> None:
    assert Predictor(model, FLOAT32).logits([]) == []


def test_other_images_are_refused(model: SegmentationModel) -> None:
    with pytest.raises(ModelError, match="uint8"):
        Predictor(model, FLOAT32).logits([np.zeros((9, 9, 3), np.float32)])


def test_an_image_too_long_to_be_resized_costs_itself_alone(
    model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SegmentationModel, "geometry", property(lambda _: aligned(8, Resize(shortest=33))))
    predictor = Predictor(model, FLOAT32)
    first, refused, last = each(predictor.upload)([picture(20, 30), picture(1, 2000), picture(40, 20)])
    assert isinstance(refused, ModelError)
    assert "an image of 2000x1 pixels would be 66000x33 for the network, whose sides may have 65536" in str(refused)
    assert [grid.shape[1:] for grid in predictor.download(predictor.compute([first, last]))] == [(5, 7), (10, 5)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"scales": ()},
        {"scales": (2.5,)},
        {"scales": (1e-6,)},
        {"tile": 256, "overlap": 128},
        {"overlap": -1},
        {"precision": "float16"},
    ],
)
def test_impossible_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Inference(**wrong)


def test_tiles_too_small_for_the_scales(model: SegmentationModel) -> None:
    with pytest.raises(ConfigError, match="too small for the scales"):
        Predictor(model, Inference(scales=(0.5, 0.75, 1.0), tile=40, overlap=16))
