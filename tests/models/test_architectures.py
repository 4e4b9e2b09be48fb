"""Parameter counts, key counts and sizes that the paper, the prototxts and the published files imply."""

import functools

import pytest
import torch

from pipeline.errors import ConfigError, ModelError
from pipeline.models import ARCHITECTURES, Architecture, SegmentationModel, build
from pipeline.models.backbones.resnet import CAFFE_RESNET, TORCHVISION_RESNET

AUXILIARY_HEAD = 1024 * 256 * 9 + 2 * 256 + 256 * 21 + 21  # torchvision counts it in, this project leaves it out

STRIDES = {
    "deeplab-efficientnet-lite0-decoder": 2,
    "deeplab-efficientnet-lite2-decoder": 2,
    "deeplabv3-mobilenet-v3-large": 16,
    **{name: 4 for name in ARCHITECTURES if name.startswith("deeplabv3plus")},
}


@functools.cache
def weightless(name: str | Architecture, classes: int) -> SegmentationModel:
    with torch.device("meta"):
        return build(name, [f"class {index}" for index in range(classes)])


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [
        ("deeplab-efficientnet-lite0-decoder", 11, 4_544_043),
        ("deeplab-efficientnet-lite2-decoder", 11, 6_091_627),
        ("deeplabv2-vgg16-largefov", 21, 20_505_429),
        ("deeplabv2-vgg16-aspp-s", 21, 37_877_652),
        ("deeplabv2-vgg16-aspp-l", 21, 37_877_652),
        ("deeplabv2-resnet101-aspp", 11, 43_311_212),
        ("deeplabv2-resnet101-aspp", 19, 43_901_068),
        ("deeplabv2-resnet101-aspp", 21, 44_048_532),
        ("deeplabv2-resnet101-aspp", 60, 46_924_080),
        ("deeplabv2-resnet101-aspp", 182, 55_919_384),
        ("deeplabv3-resnet50", 21, 42_004_074 - AUXILIARY_HEAD),
        ("deeplabv3-resnet101", 21, 60_996_202 - AUXILIARY_HEAD),
    ],
)
def test_parameters(name: str, classes: int, count: int) -> None:
    assert parameters(weightless(name, classes)) == count


def test_resnet101_backbone() -> None:
    backbone = weightless("deeplabv2-resnet101-aspp", 21).backbone
    assert parameters(backbone) == 42_500_160
    assert sum(isinstance(module, torch.nn.Conv2d) for module in backbone.modules()) == 104


@pytest.mark.parametrize(
    ("head", "rates", "classes", "count", "keys"),
    [("aspp", (6, 12, 18, 24), 21, 44_048_532, 632), ("pointwise", (), 91, 42_686_619, 626)],
)
def test_published_state_dicts(head: str, rates: tuple[int, ...], classes: int, count: int, keys: int) -> None:
    architecture = Architecture(backbone="resnet101", head=head, rates=rates, options=CAFFE_RESNET)
    model = weightless(architecture, classes)
    assert parameters(model) == count
    assert len(model.state_dict()) == keys


SIZES = {161: 21, 241: 31, 257: 33, 321: 41, 360: 46, 375: 48, 385: 49, 480: 61, 500: 63, 512: 65, 513: 65, 1025: 129}


@pytest.mark.parametrize(("pixels", "grid"), SIZES.items())
def test_resnet_grid(pixels: int, grid: int) -> None:
    backbone = weightless("deeplabv2-resnet101-aspp", 21).backbone
    (features,) = backbone(torch.empty(1, 3, pixels, pixels, device="meta"))
    assert features.shape == (1, 2048, grid, grid)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("pixels", [1, 65, 321, 1025])
def test_valid_sizes(name: str, pixels: int) -> None:
    model = weightless(name, 5)
    logits = model(torch.empty(2, 3, pixels, 2 * pixels - 1, device="meta"))
    assert model.stride == STRIDES.get(name, 8)
    assert logits.shape == (2, 5, (pixels - 1) // model.stride + 1, (2 * pixels - 2) // model.stride + 1)


def test_the_decoder_takes_every_size_of_its_own_stride() -> None:
    """Its backbone goes down to stride 16; what a size lacks to 16m + 1 is padded inside and cut off again."""
    model = weightless("deeplab-efficientnet-lite0-decoder", 11)
    for height, width in ((361, 485), (363, 487)):
        logits = model(torch.empty(1, 3, height, width, device="meta"))
        assert logits.shape == (1, 11, (height + 1) // 2, (width + 1) // 2)
    with pytest.raises(ModelError, match=r"480x361 .* pad to 481x361"):
        model(torch.empty(1, 3, 480, 361, device="meta"))


def test_other_sizes_are_refused() -> None:
    model = weightless("deeplabv2-efficientnet-lite0-aspp", 3)
    with pytest.raises(ModelError, match=r"64x65 .* pad to 65x65"):
        model(torch.empty(1, 3, 64, 65, device="meta"))


@pytest.mark.parametrize(
    ("style", "strides", "first_dilations", "ceil"),
    [(CAFFE_RESNET, (2, 1), (2, 4), True), (TORCHVISION_RESNET, (1, 2), (1, 2), False)],
)
def test_resnet_behaviour(
    style: object, strides: tuple[int, int], first_dilations: tuple[int, int], ceil: bool
) -> None:
    with torch.device("meta"):
        backbone = Architecture(backbone="resnet50", head="aspp", rates=(6, 12, 18, 24), options=style).build_backbone()
    first = backbone.layer3[0]
    assert (first.reduce.conv.stride[0], first.conv3x3.conv.stride[0]) == strides
    assert first.shortcut.conv.stride == (2, 2)
    assert tuple(layer[0].conv3x3.conv.dilation[0] for layer in (backbone.layer4, backbone.layer5)) == first_dilations
    assert {block.conv3x3.conv.dilation[0] for block in backbone.layer4[1:]} == {2}
    assert {block.conv3x3.conv.dilation[0] for block in backbone.layer5[1:]} == {4}
    assert backbone.pool.ceil_mode == ceil


@pytest.mark.parametrize(
    "wrong",
    [
        {"backbone": "resnet18", "head": "aspp", "rates": (6, 12, 18, 24)},
        {"backbone": "vgg16", "head": "deeplabv3", "rates": (12, 24, 36)},
        {"backbone": "vgg16", "head": "largefov", "rates": (6, 12)},
        {"backbone": "vgg16", "head": "aspp", "rates": (0, 12)},
        {"backbone": "vgg16", "head": "aspp", "rates": (6, 10**9)},
        {"backbone": "vgg16", "head": "aspp", "rates": (6, 12), "options": CAFFE_RESNET},
        {"backbone": "resnet50", "head": "aspp", "rates": (6, 12)},
        {"backbone": "vgg16", "head": "decoder", "rates": (6, 12)},
    ],
)
def test_impossible_architectures(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Architecture(**wrong)


def test_unknown_architecture_names_the_known() -> None:
    with pytest.raises(ConfigError, match="deeplabv2-resnet101-aspp"):
        build("deeplabv9", ["a", "b"])
