"""Every published layout of weights: the logits equal those of a reference network on the same weights."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
import safetensors.torch
import torch
from torch import Tensor

from pipeline import models
from pipeline.errors import WeightsError
from pipeline.models import SegmentationModel
from pipeline.models.preprocessing import CAFFE_PREPROCESSING, IMAGENET_PREPROCESSING
from pipeline.models.ready import folded
from tests.helpers.caffe_writer import MODERN, V1, caffe_resnet, caffe_vgg
from tests.helpers.random_weights import (
    kazuto_state,
    torchvision_deeplabv3_state,
    torchvision_resnet_state,
    vgg_state,
)
from tests.helpers.reference_networks import (
    BLOCKS,
    kazuto_backbone,
    kazuto_logits,
    torchvision_backbone,
    torchvision_deeplabv3,
    torchvision_mobilenet_v2,
    vgg_aspp,
    vgg_backbone,
    vgg_largefov,
)
from tests.helpers.same_logits import assert_same_logits
from tests.helpers.torchvision_samples import drawn

State = dict[str, Tensor]
RELATIVE = 1e-4
SAMPLES = Path(__file__).parents[1] / "samples" / "torchvision"

VOC = "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person"
VOC += " pottedplant sheep sofa train tvmonitor"


def pictures(size: tuple[int, int]) -> Tensor:
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(sum(size)))


class SegmenterTester:
    """A layout that segments. A subclass says how its file is written and what network it stands for."""

    sizes: ClassVar = [(65, 65), (33, 97)]
    preprocessing: ClassVar = CAFFE_PREPROCESSING
    scales: ClassVar = (1.0,)
    crf_bilateral_xy: ClassVar = 67

    def state(self) -> State:
        raise NotImplementedError

    def write(self, state: State, path: Path) -> None:
        torch.save(state, path)

    def reference(self, state: State, x: Tensor) -> Tensor:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def weights(cls) -> State:
        return cls().state()

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, weights: State, tmp_path_factory: pytest.TempPathFactory) -> SegmentationModel:
        path = tmp_path_factory.mktemp("weights") / "weights.bin"  # the name tells nothing
        cls().write(weights, path)
        loaded = models.load(str(path))
        path.unlink()
        return loaded

    def test_logits(self, model: SegmentationModel, weights: State) -> None:
        for size in self.sizes:
            x = pictures(size)
            with torch.inference_mode():
                assert_same_logits(model(x), self.reference(weights, x), RELATIVE)

    def test_logits_folded(self, model: SegmentationModel) -> None:
        x = pictures(self.sizes[0])
        with torch.inference_mode():
            assert_same_logits(folded(model)(x), model(x), relative=1e-5)

    def test_behaviour(self, model: SegmentationModel) -> None:
        assert not model.training
        assert model.card.preprocessing == self.preprocessing
        assert model.card.scales == self.scales
        assert model.card.crf["bilateral_xy"] == self.crf_bilateral_xy
        assert " ".join(model.classes) == VOC
        assert model.palette[15].tolist() == [192, 128, 128]  # person, in VOC's colours


class TestKazuto(SegmenterTester):
    scales = (0.5, 0.75, 1.0)

    def state(self) -> State:
        return kazuto_state()

    def write(self, state: State, path: Path) -> None:
        assert len(state) == 632
        torch.save({f"base.{key}": value for key, value in state.items()}, path)

    def reference(self, state: State, x: Tensor) -> Tensor:
        return kazuto_logits(state, x)


class TestKazutoWithoutMultiScale(SegmenterTester):
    sizes: ClassVar = [(33, 33)]

    def state(self) -> State:
        return kazuto_state("resnet50")

    def write(self, state: State, path: Path) -> None:
        safetensors.torch.save_file(state, path)

    def reference(self, state: State, x: Tensor) -> Tensor:
        return kazuto_logits(state, x, BLOCKS["resnet50"])


class TestCaffeResNet101(SegmenterTester):
    scales = (0.5, 0.75, 1.0)

    def state(self) -> State:
        return kazuto_state()

    def write(self, state: State, path: Path) -> None:
        path.write_bytes(caffe_resnet(state, MODERN, shared=True))

    def reference(self, state: State, x: Tensor) -> Tensor:
        return kazuto_logits(state, x)


class TestCaffeResNet50InV1Layers(SegmenterTester):
    def state(self) -> State:
        return kazuto_state("resnet50")

    def write(self, state: State, path: Path) -> None:
        path.write_bytes(caffe_resnet(state, V1))

    def reference(self, state: State, x: Tensor) -> Tensor:
        return kazuto_logits(state, x, BLOCKS["resnet50"])


class TestCaffeVGGLargeFOV(SegmenterTester):
    crf_bilateral_xy = 65

    def state(self) -> State:
        return vgg_state(("",))

    def write(self, state: State, path: Path) -> None:
        path.write_bytes(caffe_vgg(state, V1))

    def reference(self, state: State, x: Tensor) -> Tensor:
        return vgg_largefov(state, x)


class TestCaffeVGGLargeRates(SegmenterTester):
    sizes: ClassVar = [(65, 65)]
    crf_bilateral_xy = 65

    def state(self) -> State:
        return vgg_state(("_1", "_2", "_3", "_4"))

    def write(self, state: State, path: Path) -> None:
        path.write_bytes(caffe_vgg(state, MODERN))

    def reference(self, state: State, x: Tensor) -> Tensor:
        return vgg_aspp(state, x, (6, 12, 18, 24))


class TestCaffeVGGSmallRates(TestCaffeVGGLargeRates):
    def write(self, state: State, path: Path) -> None:
        path.write_bytes(caffe_vgg(state, V1, rates=(2, 4, 8, 12)))

    def reference(self, state: State, x: Tensor) -> Tensor:
        return vgg_aspp(state, x, (2, 4, 8, 12))


class TestTorchvisionDeepLabV3ResNet50(SegmenterTester):
    preprocessing = IMAGENET_PREPROCESSING
    depth: ClassVar = "resnet50"

    def state(self) -> State:
        return torchvision_deeplabv3_state(self.depth)

    def reference(self, state: State, x: Tensor) -> Tensor:
        return torchvision_deeplabv3(state, x, BLOCKS[self.depth])


class TestTorchvisionDeepLabV3ResNet101(TestTorchvisionDeepLabV3ResNet50):
    sizes: ClassVar = [(65, 49)]
    depth = "resnet101"


class BackboneTester:
    """A layout whose backbone starts a training and brings its behaviour along."""

    architecture: ClassVar = "deeplabv2-resnet50-aspp"
    preprocessing: ClassVar = CAFFE_PREPROCESSING

    def state(self) -> State:
        raise NotImplementedError

    def write(self, state: State, path: Path) -> None:
        torch.save(state, path)

    def reference(self, state: State, x: Tensor) -> Tensor:
        raise NotImplementedError

    def test_features(self, tmp_path: Path) -> None:
        weights = self.state()
        self.write(weights, tmp_path / "weights")
        model = models.build(self.architecture, ["a", "b"], backbone_weights=str(tmp_path / "weights"))
        assert model.training
        x = pictures((65, 49))
        with torch.inference_mode():
            (features,) = model.eval().backbone(x)
            assert_same_logits(features, self.reference(weights, x), RELATIVE)
        assert model.card.preprocessing == self.preprocessing


class BackboneAloneTester(BackboneTester):
    """A layout without a head that segments."""

    def test_load_says_what_is_missing(self, tmp_path: Path) -> None:
        self.write(self.state(), tmp_path / "weights")
        with pytest.raises(WeightsError, match="without a head"):
            models.load(str(tmp_path / "weights"))


class TestTorchvisionResNet50(BackboneAloneTester):
    preprocessing = IMAGENET_PREPROCESSING
    depth: ClassVar = "resnet50"

    def state(self) -> State:
        return torchvision_resnet_state(self.depth)

    def reference(self, state: State, x: Tensor) -> Tensor:
        return torchvision_backbone(state, x, BLOCKS[self.depth])


class TestTorchvisionResNet101(TestTorchvisionResNet50):
    architecture = "deeplabv2-resnet101-aspp"
    depth = "resnet101"


class TestTorchvisionVGG16(BackboneAloneTester):
    architecture = "deeplabv2-vgg16-aspp-l"
    preprocessing = IMAGENET_PREPROCESSING
    indices: ClassVar = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)

    def state(self) -> State:
        return vgg_state(())

    def write(self, state: State, path: Path) -> None:
        names = list(dict.fromkeys(key.partition(".")[0] for key in state))
        index = dict(zip(names, self.indices, strict=True))
        pairs = [(name, kind) for name in names for kind in ("weight", "bias")]
        renamed = {f"features.{index[name]}.{kind}": state[f"{name}.{kind}"] for name, kind in pairs}
        torch.save(renamed | {"classifier.0.weight": torch.zeros(4096, 1).expand(4096, 25088)}, path)

    def reference(self, state: State, x: Tensor) -> Tensor:
        return vgg_backbone(state, x)


class TestTorchvisionMobileNetV2(BackboneAloneTester):
    architecture = "deeplabv3-mobilenet-v2"
    preprocessing = IMAGENET_PREPROCESSING

    def state(self) -> State:
        shapes = json.loads((SAMPLES / "vainf_deeplabv3plus_mobilenet_v2.json").read_bytes())["shapes"]
        parts = {key.partition("_features.")[2]: shape for key, shape in shapes.items()}
        return drawn({f"features.{key}": shape for key, shape in parts.items() if key})

    def write(self, state: State, path: Path) -> None:
        torch.save(
            state | {"features.18.0.weight": torch.zeros(1280, 320, 1, 1), "classifier.1.bias": torch.zeros(3)}, path
        )

    def reference(self, state: State, x: Tensor) -> Tensor:
        return torchvision_mobilenet_v2(state, x)


class TestCaffeVGG16(TestTorchvisionVGG16):
    preprocessing = CAFFE_PREPROCESSING

    def write(self, state: State, path: Path) -> None:
        classifier = {"fc8.weight": torch.zeros(1000, 4), "fc8.bias": torch.zeros(1000)}
        path.write_bytes(caffe_vgg(state | classifier, V1))


class TestKazutoBackbone(BackboneTester):
    def state(self) -> State:
        return kazuto_state("resnet50", classes=91, single_head=True)

    def reference(self, state: State, x: Tensor) -> Tensor:
        return kazuto_backbone(state, x, BLOCKS["resnet50"])


@pytest.mark.parametrize("form", ["torch", "caffe"])
def test_coco_initialisation(form: str, tmp_path: Path) -> None:
    """The single-head COCO initialisation: 91 classes, 626 keys for ResNet-101, and it segments too."""
    weights = kazuto_state("resnet50", classes=91, single_head=True)
    path = tmp_path / "init"
    if form == "torch":
        torch.save(weights, path)
    else:
        path.write_bytes(caffe_resnet(weights, MODERN))
    model = models.load(str(path))
    assert model.classes[:3] == ("background", "person", "bicycle")
    x = pictures((33, 41))
    with torch.inference_mode():
        assert_same_logits(model(x), kazuto_logits(weights, x, BLOCKS["resnet50"]), RELATIVE)


@pytest.mark.parametrize(
    "name",
    [
        "lraspp_mobilenet_v3_large",
        "deeplabv3_mobilenet_v3_large",
        "vainf_deeplabv3plus_resnet50",
        "vainf_deeplabv3plus_mobilenet_v2",
    ],
)
def test_logits_that_other_projects_gave(name: str, tmp_path: Path) -> None:
    """Networks of two classes of torchvision, and of VainF, gave these logits, before they resize to the input.

    VainF's MobileNetV2, whose first convolution does not pad, was given a border of one pixel of zeros.
    """
    sample = json.loads((SAMPLES / f"{name}.json").read_bytes())
    state = {f"module.{key}": value for key, value in drawn(sample["shapes"]).items()}
    torch.save({"model": state, "epoch": 3}, tmp_path / "fine_tuned.pth")
    model = models.load(f"{tmp_path}/fine_tuned.pth")
    assert model.classes == ("class_0", "class_1")
    x = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = torch.tensor(sample["logits"]).reshape(sample["size"])
        exact = model.double()(x.double())  # theirs were rounded to float32 as another processor does it
        assert_same_logits(exact, logits, RELATIVE)


def test_logits_that_smp_gave(tmp_path: Path) -> None:
    """smp takes sides of 32 k pixels alone, whose grids this project's networks do not see: the layers are compared."""
    sample = json.loads((SAMPLES / "smp_deeplabv3plus_resnet50.json").read_bytes())
    torch.save({"state_dict": drawn(sample["shapes"])}, tmp_path / "fine_tuned.pth")
    model = models.load(f"{tmp_path}/fine_tuned.pth")
    assert isinstance(model, SegmentationModel)
    assert (model.stride, model.classes) == (4, ("class_0", "class_1"))
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = torch.tensor(sample["logits"]).reshape(sample["size"])
        assert_same_logits(model.head(model.backbone(x)), logits, RELATIVE)


def test_weights_in_half_precision_are_those_that_they_round_to(tmp_path: Path) -> None:
    sample = json.loads((SAMPLES / "lraspp_mobilenet_v3_large.json").read_bytes())
    halves = {key: value.half() for key, value in drawn(sample["shapes"]).items()}
    x = pictures((33, 49))
    results = []
    for state in (halves, {key: value.float() for key, value in halves.items()}):
        torch.save({"model_ema": state | {"n_averaged": torch.tensor(5)}}, tmp_path / "fine_tuned.pth")
        with torch.inference_mode():
            results.append(models.load(f"{tmp_path}/fine_tuned.pth")(x))
    assert torch.equal(*results)
