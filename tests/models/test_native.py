"""The project's own layout: safetensors with a card beside it."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from pipeline import models
from pipeline.errors import WeightsError
from pipeline.models import SegmentationModel
from pipeline.models.built_in import BUILT_IN
from pipeline.models.checkpoints import native


@pytest.mark.parametrize("uri", ["{}/coast.safetensors", "memory://weights/coast.safetensors"])
def test_round_trip(model: SegmentationModel, uri: str, tmp_path: Path) -> None:
    place = uri.format(tmp_path)
    native.save(model, place)
    loaded = models.load(place)
    assert loaded.card == model.card
    assert loaded.digest == model.digest
    x = torch.randn(1, 3, 33, 33)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)


def test_half_is_half_the_size_and_close(model: SegmentationModel, tmp_path: Path) -> None:
    native.save(model, str(tmp_path / "whole.safetensors"))
    native.save(model, str(tmp_path / "half.safetensors"), half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.52 * sizes[1]
    loaded = models.load(str(tmp_path / "half.safetensors"))
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32, torch.int64}
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-3, atol=1e-6)


def test_digest_follows_weights_and_behaviour(model: SegmentationModel, tmp_path: Path) -> None:
    native.save(model, str(tmp_path / "coast.safetensors"))
    loaded = models.load(str(tmp_path / "coast.safetensors"))
    first = loaded.digest
    loaded.card = models.ModelCard.from_dict(loaded.card.to_dict() | {"licence": "CC0"})
    assert loaded.digest == first
    loaded.card = models.ModelCard.from_dict(loaded.card.to_dict() | {"scales": [0.5, 1.0]})
    second = loaded.digest
    loaded.card = models.ModelCard.from_dict(loaded.card.to_dict() | {"fusion": "mean"})
    third = loaded.digest
    with torch.no_grad():
        loaded.head.branches[0].bias[0] += 1
    assert len({first, second, third, loaded.digest}) == 4


def edit(path: Path, **fields: object) -> None:
    card = json.loads(path.read_text())
    card.update(fields)
    path.write_text(json.dumps(card))


OBJECT = {"0": "sky", "1": "sea", "2": "land"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": ["one", "two"]}, "3 palette colours for 2 classes"),
        ({"classes": []}, "2 to 256 classes, not 0"),
        ({"classes": ["road"], "palette": [[0, 0, 0]]}, "2 to 256 classes, not 1; .* name that too"),
        ({"classes": OBJECT}, "classes are {'0': 'sky', .*; give a list of names, in the order of their class ids"),
        ({"classes": [0, 1, 2]}, "the name of class 0 is 0; give text of one line"),
        ({"classes": ["sky", "sea", "sky"]}, "2 classes are called 'sky'"),
        ({"classes": None}, "classes are None"),
        ({"name": 3}, "card.name is 3; it must be text"),
        ({"architecture": {"trunk": "vgg16"}}, "architecture has no field 'resnet'"),
        ({"architecture": {"trunk": "vgg16", "resnet": None, "rates": [6]}}, "architecture has no field 'head'"),
        ({"architecture": {"trunk": ["vgg16"], "resnet": None, "head": "aspp", "rates": [6]}}, "must be text"),
        ({"architecture": None}, "architecture is None; it must be an object"),
        (
            {"architecture": {"trunk": "vgg16", "resnet": None, "head": "aspp", "rates": [6, 12, 18, 24.5]}},
            r"architecture.rates\[3\] is 24.5; it must be a whole number",
        ),
        (
            {
                "architecture": {
                    "trunk": "resnet50",
                    "head": "aspp",
                    "rates": [6, 12, 18, 24],
                    "resnet": {"stride_on": "3x3", "ceil_pool": "false", "dilate_first_block": True},
                }
            },
            "architecture.resnet.ceil_pool is 'false'; it must be true or false",
        ),
        ({"preprocessing": {"channels": "GRB", "mean": [0, 0, 0]}}, "must be 'RGB' or 'BGR'"),
        ({"preprocessing": {"channels": "RGB", "mean": [0, 0]}}, "it must have 3 values"),
        ({"preprocessing": {"channels": "RGB", "mean": [0, 0, float("nan")]}}, r"mean\[2\] is nan; .* a finite number"),
        ({"preprocessing": {"channels": "RGB", "mean": [0, 0, 10**400]}}, r"mean\[2\] is 10+; .* a finite number"),
        ({"preprocessing": {"channels": "RGB", "mean": "000"}}, "mean is '000'; it must be a list"),
        ({"preprocessing": {"channels": "RGB", "mean": [0, 0, 0], "std": [1, 1, 0]}}, "above 0"),
        ({"preprocessing": 3}, "preprocessing is 3; it must be an object"),
        ({"scales": [2.5]}, "at most 2"),
        ({"fusion": "median"}, "fusion is 'median'; it must be 'maximum' or 'mean'"),
        ({"scales": ["1"]}, r"scales\[0\] is '1'; it must be a finite number"),
        ({"scales": 1}, "scales is 1; it must be a list"),
        ({"crf": {"bilateral_xy": "67"}}, "crf.bilateral_xy is '67'; it must be a finite number"),
        ({"crf": {"bilateral_xy": 0}}, "CRF bilateral_xy must be in"),
        ({"crf": {"iterations": 2.5}}, "crf.iterations is 2.5; it must be a whole number"),
        ({"crf": {"normalization": "before"}}, "it must be 'symmetric' or 'after'"),
        ({"crf": {"sigma": 3}}, "crf has an unknown field 'sigma'; remove it. Known: iterations, "),
        ({"crf": None}, "card.crf is None; it must be an object"),
        ({"scores": {"mean IoU": float("nan")}}, "card.scores.mean IoU is nan; it must be a finite number"),
        ({"scores": {"mean IoU": True}}, "is True; it must be a finite number"),
        ({"colour": "red"}, "card has an unknown field 'colour'; remove it"),
        ({"palette": [[0, 0, 999]] * 3}, "0 to 255"),
        ({"palette": [[0, 0, 0.5]] * 3}, r"card.palette\[0\]\[2\] is 0.5; it must be a whole number"),
        ({"palette": {"sky": [0, 0, 0]}}, "card.palette is {.*}; it must be a list"),
        ({"weights_sha256": "0" * 64}, "belongs to other weights"),
    ],
)
def test_damaged_cards(model: SegmentationModel, fields: dict[str, object], message: str, tmp_path: Path) -> None:
    native.save(model, str(tmp_path / "coast.safetensors"))
    edit(tmp_path / "coast.json", **fields)
    with pytest.raises(WeightsError, match=message):
        models.load(str(tmp_path / "coast.safetensors"))


def test_a_card_with_whole_numbers_where_it_could_have_others_is_read(model: SegmentationModel, tmp_path: Path) -> None:
    native.save(model, str(tmp_path / "coast.safetensors"))
    edit(tmp_path / "coast.json", crf={"bilateral_xy": 67}, scores={"mean IoU": 70}, scales=[1])
    assert models.load(str(tmp_path / "coast.safetensors")).card.crf == {"bilateral_xy": 67}


@pytest.mark.parametrize("architecture", ["light", "light-aspp", "vgg16-largefov", "deeplabv3-resnet50"])
def test_a_sigmoid_head_is_two_classes_where_its_card_says_so(architecture: str, tmp_path: Path) -> None:
    """The softmax of (0, z) is the sigmoid of z, at every scale."""
    torch.manual_seed(1)
    whole = models.build(architecture, ["background", "road"]).eval()
    place = str(tmp_path / "road.safetensors")
    native.save(whole, place)
    card, state = tmp_path / "road.json", safetensors.torch.load_file(place)
    classifying = {id(p) for layer in whole.head.classifiers() for p in layer.parameters()}
    for name, parameter in whole.named_parameters():
        if id(parameter) in classifying:
            state[name] = state[name][1:].clone()
    safetensors.torch.save_file(state, place)
    edit(card, weights_sha256=hashlib.sha256(Path(place).read_bytes()).hexdigest())
    loaded = models.load(place)
    x = torch.randn(1, 3, 33, 49)
    with torch.inference_mode():
        logits = loaded(x)
        assert not logits[:, 0].any()
        torch.testing.assert_close(logits[:, 1], whole(x)[:, 1])
        torch.testing.assert_close(logits.softmax(dim=1)[:, 1], whole(x)[:, 1].sigmoid())


def test_missing_and_broken_cards(model: SegmentationModel, tmp_path: Path) -> None:
    native.save(model, str(tmp_path / "coast.safetensors"))
    (tmp_path / "coast.json").write_text("{")
    with pytest.raises(WeightsError, match="not JSON"):
        models.load(str(tmp_path / "coast.safetensors"))
    (tmp_path / "coast.json").write_text("[" * 100_000)
    with pytest.raises(WeightsError, match="not JSON"):
        models.load(str(tmp_path / "coast.safetensors"))
    (tmp_path / "coast.json").unlink()
    with pytest.raises(WeightsError, match="need their card beside them"):
        models.load(str(tmp_path / "coast.safetensors"))


def test_damaged_weights(model: SegmentationModel, tmp_path: Path) -> None:
    path = tmp_path / "coast.safetensors"
    native.save(model, str(path))
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(30):
        data = bytearray(whole)
        data[random.integers(len(data))] ^= 1 << int(random.integers(8))
        path.write_bytes(data[: random.integers(len(data))] if random.random() < 0.5 else data)
        with pytest.raises(WeightsError):
            models.load(str(path))


def test_another_suffix_is_refused(model: SegmentationModel, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"must end in .safetensors"):
        native.save(model, str(tmp_path / "coast.bin"))


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    model = models.build("deeplabv2-efficientnet-lite0-aspp", ["a", "b"])
    with torch.no_grad():
        model.head.branches[0].weight[0, 0, 0, 0] = 1e6
    with pytest.raises(WeightsError, match=r"head.branches.0.weight"):
        native.save(model, str(tmp_path / "a.safetensors"), half=True)


DIGESTS = {
    "scenes": "10e6d52ad964541677a44c68682b76d1fab7fbca2d716b8d23ef7a8591b14df0",
    "street": "8cfa99035dfef6a77bf9b6144479f6213b5007260d5031ce85c5c20a0a49e1a0",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_digests_of_models_whose_outputs_are_in_buckets_stay(name: str) -> None:
    """A run goes on where masks of the same digest are already there; another one would make them all anew."""
    assert models.load(name).digest == DIGESTS[name]


@pytest.mark.parametrize("name", DIGESTS)
def test_files_keep_the_names_that_the_first_ones_had(name: str, tmp_path: Path) -> None:
    """Saving a shipped model again gives its card, but for the file's own digest, and the keys of its weights."""
    native.save(models.load(name), str(tmp_path / f"{name}.safetensors"), half=True)
    again, first = (json.loads((folder / f"{name}.json").read_text()) for folder in (tmp_path, BUILT_IN))
    assert again == first
    assert (tmp_path / f"{name}.safetensors").read_bytes() == (BUILT_IN / f"{name}.safetensors").read_bytes()


def test_a_stored_resnet_has_its_options(tmp_path: Path) -> None:
    with torch.device("meta"):
        card = models.build("deeplabv3-resnet50", ["a", "b"]).card
    assert card.to_dict()["architecture"] == {
        "trunk": "resnet50",
        "head": "deeplabv3",
        "rates": [12, 24, 36],
        "resnet": {"stride_on": "3x3", "ceil_pool": False, "dilate_first_block": False},
    }
    assert models.ModelCard.from_dict(card.to_dict()) == card
