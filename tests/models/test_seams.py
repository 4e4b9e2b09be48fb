"""A new backbone or head is a class and a line in a registry; and what each registered one says of itself is true."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from pipeline import models
from pipeline.errors import ConfigError
from pipeline.models import Architecture, SegmentationModel
from pipeline.models.architecture import MAX_RATE
from pipeline.models.backbones import BACKBONES, Backbone, BackboneOptions, FeatureInfo, FeatureRequest
from pipeline.models.backbones.mobilenet_v2 import TORCHVISION_MOBILENET_V2, VAINF_MOBILENET_V2, MobileNetV2Style
from pipeline.models.backbones.resnet import CAFFE_RESNET, TORCHVISION_RESNET, ResNetStyle
from pipeline.models.checkpoints import native
from pipeline.models.heads import HEADS, Head
from pipeline.training.loop import train
from pipeline.training.parameters import parameter_groups
from pipeline.training.recipe import Recipe

OPTIONS = {
    ResNetStyle: [CAFFE_RESNET, TORCHVISION_RESNET],
    MobileNetV2Style: [TORCHVISION_MOBILENET_V2, VAINF_MOBILENET_V2],
}
LEVELS = [(name, stride) for name, backbone in BACKBONES.items() for stride in backbone.levels]


@dataclass(frozen=True, kw_only=True)
class ToyOptions(BackboneOptions):
    gain: float


class ToyBackbone(Backbone):
    """Two strided convolutions, at strides 2 and 4."""

    levels: ClassVar = {4: {2: 5, 4: 7}}
    options_type: ClassVar = ToyOptions
    released_crf: ClassVar = {"bilateral_xy": 50}

    def __init__(self, request: FeatureRequest, options: ToyOptions) -> None:
        super().__init__(request, options)
        self.first = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.second = nn.Conv2d(5, 7, 3, stride=2, padding=1)
        nn.init.constant_(self.second.bias, options.gain)

    def stages(self) -> Iterable[tuple[int, Iterable[nn.Module]]]:
        return (2, [self.first]), (4, [self.second])


class ToyHead(Head):
    """Finer and coarser features, each through a convolution, joined at stride 2."""

    request: ClassVar = FeatureRequest(strides=(2, 4))
    rate_counts: ClassVar = range(1, 2)
    output_stride: ClassVar = 2

    def __init__(self, features: FeatureInfo, classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        fine, coarse = features.channels
        self.join = nn.Conv2d(coarse, fine, 3, padding=rates[0], dilation=rates[0])
        self.last = nn.Conv2d(fine, classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        fine, coarse = features
        wide = nn.functional.interpolate(self.join(coarse), fine.shape[-2:], mode="bilinear", align_corners=True)
        return self.last(fine + wide)

    def classifiers(self) -> list[nn.Module]:
        return [self.last]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> SegmentationModel:
    monkeypatch.setitem(BACKBONES, "toy", ToyBackbone)
    monkeypatch.setitem(HEADS, "toy", ToyHead)
    torch.manual_seed(0)
    architecture = Architecture(backbone="toy", head="toy", rates=(2,), options=ToyOptions(gain=0.5))
    return models.build(architecture, ["a", "b", "c"])


def test_a_new_backbone_and_head_run(toy: SegmentationModel) -> None:
    assert (toy.stride, toy.card.architecture.step) == (2, 4)
    assert toy.card.crf == {"bilateral_xy": 50}
    assert toy(torch.randn(2, 3, 31, 17)).shape == (2, 3, 16, 9)
    image = torch.randint(0, 256, (20, 30, 3), dtype=torch.uint8).numpy()
    assert toy.eval().probabilities(image).shape == (3, 20, 30)


def test_a_new_backbone_and_head_are_stored_with_their_options(toy: SegmentationModel, tmp_path: Path) -> None:
    native.save(toy, str(tmp_path / "toy.safetensors"))
    loaded = models.load(str(tmp_path / "toy.safetensors"))
    assert loaded.card == toy.card
    assert loaded.card.architecture.options == ToyOptions(gain=0.5)
    assert loaded.digest == toy.digest
    other = Architecture(backbone="toy", head="toy", rates=(1,), options=ToyOptions(gain=0.25))
    begun = models.build(other, ["a", "b"], backbone_weights=str(tmp_path / "toy.safetensors"))
    assert begun.card.architecture.options == ToyOptions(gain=0.5)
    assert torch.equal(begun.backbone.second.weight, toy.backbone.second.weight)


def test_a_new_backbone_and_head_learn(toy: SegmentationModel) -> None:
    recipe = Recipe(iterations=2, batch=1, crop=17)
    fast = [group for group in parameter_groups(toy, recipe) if group["multiplier"] >= 10]
    assert {id(p) for group in fast for p in group["params"]} == {id(p) for p in toy.head.last.parameters()}
    batches = [(torch.randn(1, 3, 17, 17), torch.randint(0, 3, (1, 17, 17), dtype=torch.uint8))] * 2
    before = {name: value.clone() for name, value in toy.named_parameters()}
    kept: list[bytes] = []
    train(toy, lambda start: batches[start:], recipe, on_checkpoint=kept.append)
    assert all(not torch.equal(value, before[name]) for name, value in toy.named_parameters())
    assert len(kept) == 1


@pytest.mark.parametrize(
    "name",
    [
        "deeplabv3plus-mobilenet-v2",
        "deeplabv3plus-mobilenet-v2-8",
        "deeplabv3plus-mobilenet-v3-large",
    ],
)
def test_deeplab_v3_plus_learns_and_segments_as_stored(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.build(name, ["a", "b", "c"])
    batches = [(torch.randn(2, 3, 33, 33), torch.randint(0, 3, (2, 33, 33), dtype=torch.uint8))] * 2
    before = {key: value.clone() for key, value in model.named_parameters()}
    kept: list[bytes] = []
    recipe = Recipe(iterations=2, batch=2, crop=33, freeze_bn=False)
    train(model, lambda start: batches[start:], recipe, on_checkpoint=kept.append)
    assert not any(torch.equal(value, before[key]) for key, value in model.named_parameters() if value.ndim > 1)
    native.save(model.eval(), str(tmp_path / "trained.safetensors"))
    loaded = models.load(str(tmp_path / "trained.safetensors"))
    image = torch.randint(0, 256, (20, 30, 3), dtype=torch.uint8).numpy()
    assert loaded.digest == model.digest
    assert (loaded.probabilities(image) == model.probabilities(image)).all()


def test_a_new_backbone_refuses_other_options(toy: SegmentationModel) -> None:
    for options in (None, CAFFE_RESNET):
        with pytest.raises(ConfigError, match="'toy' takes a ToyOptions"):
            Architecture(backbone="toy", head="toy", rates=(2,), options=options)
    with pytest.raises(ConfigError, match="'decoder' cannot be on the backbone 'toy': it has no features at stride 2"):
        Architecture(backbone="toy", head="decoder", rates=(1, 2), options=ToyOptions(gain=0.5))


@pytest.mark.parametrize(("name", "stride"), LEVELS)
@pytest.mark.parametrize("average_pool", [False, True])
def test_a_backbone_gives_the_levels_that_it_names(name: str, stride: int, average_pool: bool) -> None:
    backbone = BACKBONES[name]
    request = FeatureRequest(strides=tuple(backbone.levels[stride]), average_pool=average_pool)
    info = backbone.feature_info(request)
    height, width = 2 * info.step + 1, 3 * info.step + 1
    for options in OPTIONS.get(backbone.options_type, [None]):
        with torch.device("meta"):
            features = backbone(request, options)(torch.empty(2, 3, height, width))
        shapes = [
            (2, channels, (height - 1) // s + 1, (width - 1) // s + 1)
            for s, channels in zip(request.strides, info.channels, strict=True)
        ]
        assert [tuple(level.shape) for level in features] == shapes
        assert info.channels == tuple(backbone.levels[stride].values())


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_on_every_backbone_that_gives_what_it_asks_for(backbone: str, head: str) -> None:
    count = HEADS[head].rate_counts[0]
    options = OPTIONS.get(BACKBONES[backbone].options_type, [None])[0]
    fields = {"backbone": backbone, "head": head, "rates": tuple(range(1, count + 1)), "options": options}
    at_16 = head in ("decoder", "deeplabv3_16", "deeplabv3plus", "deeplabv3plus_separable", "lraspp")
    impossible = (not at_16 and backbone == "mobilenet_v3_large") or (
        backbone == "vgg16" and head not in ("aspp", "largefov")
    )
    if impossible:
        with pytest.raises(ConfigError, match=f"the head '{head}' cannot be on the backbone '{backbone}'"):
            Architecture(**fields)
        return
    with torch.device("meta"):
        model = models.build(Architecture(**fields), ["a", "b"])
        side = 4 * model.card.architecture.step + 1
        logits = model(torch.empty(2, 3, side, side))
    assert logits.shape == (2, 2, *[(side - 1) // model.stride + 1] * 2)
    classified = {parameter.shape[0] for layer in model.head.classifiers() for parameter in layer.parameters()}
    assert classified == {2}


@pytest.mark.parametrize("rates", [(), (MAX_RATE + 1,)])
def test_a_head_refuses_rates_that_it_cannot_have(rates: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="rates"):
        Architecture(backbone="vgg16", head="largefov", rates=rates)
