"""Finding weights by name or URI, naming classes, and telling what is wrong with a file."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline import models, storage
from pipeline.errors import ConfigError, StorageError, WeightsError
from pipeline.models import Architecture
from pipeline.models.backbones.resnet import TORCHVISION_RESNET
from pipeline.models.built_in import BUILT_IN, built_in_names
from tests.helpers.random_weights import kazuto_state, torchvision_resnet_state

State = dict[str, Tensor]


def hollow(state: State) -> State:
    """The same keys and shapes in a file of a few kilobytes."""
    return {key: torch.zeros(()).expand(value.shape) for key, value in state.items()}


@pytest.fixture(scope="module")
def keys() -> State:
    return hollow(kazuto_state("resnet50"))


def test_182_classes_are_coco_stuff(keys: State, tmp_path: Path) -> None:
    heads = {key: torch.zeros(()).expand(182, *value.shape[1:]) for key, value in keys.items() if "aspp" in key}
    torch.save(keys | heads, tmp_path / "weights")
    model = models.load(str(tmp_path / "weights"))
    assert (len(model.classes), model.classes[0], model.classes[181]) == (182, "person", "wood")


def test_unknown_number_of_classes(keys: State, tmp_path: Path) -> None:
    heads = {key: torch.zeros(()).expand(5, *value.shape[1:]) for key, value in keys.items() if "aspp" in key}
    torch.save(keys | heads, tmp_path / "weights")
    assert models.load(str(tmp_path / "weights")).classes == ("class_0", "class_1", "class_2", "class_3", "class_4")
    assert models.load(str(tmp_path / "weights"), unnamed="abcde").classes == tuple("abcde")
    assert models.load(str(tmp_path / "weights"), "fghij", unnamed="abcde").classes == tuple("fghij")
    assert "a" not in models.load("scenes", unnamed=["a"]).classes  # which has names of its own


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if not key.startswith(name)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("layer3.block2.reduce.conv"), "1 missing .backbone.layer3.1.reduce.conv.weight"),
        (lambda state: state | {"extra": torch.zeros(2)}, "1 unexpected .extra"),
        (
            lambda state: state | {"layer2.block1.reduce.bn.bias": torch.zeros(3)},
            r"backbone.layer2.0.reduce.bn.bias is \(3,\), expected \(64,\)",
        ),
        (without("layer5"), "missing .*, .*, .*, ..."),
        (without("aspp"), "without its head"),
        (without("layer4.block6"), "5 blocks in layer4"),
        (without("layer1"), "no known layout"),
        (lambda state: state | {"aspp.c1.weight": torch.zeros(())}, "another shape"),
        (lambda state: state | {"aspp.c0.weight": torch.zeros(300, 2048, 3, 3)}, "300 classes"),
        (lambda state: state | {"aspp.c0.weight": torch.zeros(1, 2048, 3, 3)}, "one output channel, and the softmax"),
        (lambda state: state | {7: torch.zeros(1)}, "no plain state_dict, and holds none as model, state_dict"),
        (lambda state: {"net": state, "model": 3}, "holds none as model, .*; its keys are net, model"),
        (lambda state: list(state.values()), "holds a list; it must be a state_dict, or hold one"),
    ],
)
def test_damage_is_named(keys: State, damage: Callable[[State], object], message: str, tmp_path: Path) -> None:
    torch.save(damage(keys), tmp_path / "weights")
    with pytest.raises(WeightsError, match=message):
        models.load(str(tmp_path / "weights"))


class Hostile:
    """What a pickle can carry: code that runs on load."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("opened", "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_is_run(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"layer1.conv1.conv.weight": Hostile()}, "weights", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"this torch file holds an object io\.open, and to read that") as told:
        models.load("./weights")
    assert not Path("opened").exists()
    assert "store the weights alone: torch.save(model.state_dict(), FILE)" in str(told.value)
    assert not re.search(r"weights_only|add_safe_globals|trust|\n|\033", str(told.value))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("model", ""), ("state_dict", "module."), ("model_state_dict", "model."), ("model_state", "_orig_mod.module.")],
)
def test_checkpoints_as_training_scripts_store_them(keys: State, name: str, prefix: str, tmp_path: Path) -> None:
    """With flags in a Namespace, and what torch's wrappers put in front of keys."""
    flags = argparse.Namespace(lr=0.1, data_path="coco", aux_loss=True, betas=(0.9, 0.99), resume=None)
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
    state = {prefix + key: value for key, value in keys.items()}
    torch.save({name: state, "optimizer": optimizer, "epoch": 3, "args": flags}, tmp_path / "plain")
    loaded = models.load(str(tmp_path / "plain"))
    assert loaded.card.architecture.backbone == "resnet50"
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_names_by_number_are_said(keys: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(keys, tmp_path / "weights")
    models.load(str(tmp_path / "weights"))
    told = f"{tmp_path}/weights does not name its classes: by their number, 21, they are called background, aeroplane"
    assert told in caplog.text
    caplog.clear()
    models.load("scenes")
    assert caplog.text == ""


def test_a_card_beside_a_file_names_its_classes(keys: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heads = {key: torch.zeros(()).expand(3, *value.shape[1:]) for key, value in keys.items() if "aspp" in key}
    torch.save(keys | heads, tmp_path / "roads.pth")
    card = tmp_path / "roads.json"
    for content in ("no JSON", "[]", '{"classes": 3, "epochs": 20}'):  # a file of some other kind
        card.write_text(content)
        assert models.load(f"{tmp_path}/roads.pth").classes == ("class_0", "class_1", "class_2")
    caplog.clear()
    card.write_text('{"classes": ["rest", "road", "sky"], "licence": "CC0-1.0"}')
    model = models.load(f"{tmp_path}/roads.pth")
    assert (model.classes, model.card.licence, caplog.text) == (("rest", "road", "sky"), "CC0-1.0", "")
    assert models.load(f"{tmp_path}/roads.pth", ["a", "b", "c"]).classes == ("a", "b", "c")
    card.write_text('{"classes": ["rest", "road"]}')
    with pytest.raises(WeightsError, match=r"the card beside .*roads.pth is of other weights: 2 classes are named"):
        models.load(f"{tmp_path}/roads.pth")
    card.write_text('{"classes": ["rest", "road", "sky"], "mean": [0, 0, 0]}')
    with pytest.raises(WeightsError, match=r"the card .*roads.json cannot be used: card has an unknown field 'mean'"):
        models.load(f"{tmp_path}/roads.pth")


def test_a_card_that_the_storage_refuses_is_not_taken_for_none(
    keys: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(uri: str) -> bytes:
        if uri.endswith(".json"):
            raise StorageError(f"cannot read {uri}: access denied")
        return read_bytes(uri)

    read_bytes = storage.read_bytes
    torch.save(keys, tmp_path / "roads.pth")
    monkeypatch.setattr(storage, "read_bytes", read)
    with pytest.raises(WeightsError, match=r"whether a card beside .*roads.pth names .*roads.json: access denied; "):
        models.load(f"{tmp_path}/roads.pth")
    names = [f"{n}" for n in range(21)]
    assert models.load(f"{tmp_path}/roads.pth", names).classes == tuple(names)
    monkeypatch.undo()
    assert models.load(f"{tmp_path}/roads.pth").classes[0] == "background"  # there is none


def test_cut_and_garbled_torch_files(keys: State, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    for zipped in (True, False):
        torch.save(dict(list(keys.items())[:20]), path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        random = np.random.default_rng(0)
        for _ in range(40):
            data = bytearray(whole)
            data[random.integers(len(data))] ^= 1 << int(random.integers(8))
            path.write_bytes(bytes(data[: random.integers(len(data))]))
            with pytest.raises(WeightsError):
                models.load(str(path))


def test_another_backbones_weights_are_refused(keys: State, tmp_path: Path) -> None:
    torch.save(keys, tmp_path / "weights")
    with pytest.raises(WeightsError, match="holds a resnet50 backbone"):
        models.build("deeplabv2-vgg16-largefov", ["a", "b"], backbone_weights=str(tmp_path / "weights"))


def test_options_travel_with_the_backbone(tmp_path: Path) -> None:
    torch.save(hollow(torchvision_resnet_state("resnet50")), tmp_path / "weights")
    model = models.build("deeplabv2-resnet50-aspp", ["a", "b"], backbone_weights=str(tmp_path / "weights"))
    assert model.card.architecture == Architecture(
        backbone="resnet50", head="aspp", rates=(6, 12, 18, 24), options=TORCHVISION_RESNET
    )


def test_the_shipped_model() -> None:
    assert "scenes" in built_in_names()
    for name in built_in_names():
        assert (BUILT_IN / f"{name}.safetensors").stat().st_size <= 12_000_000
        model = models.load(name)
        assert model.card.name == name
        np.testing.assert_allclose(model.probabilities(np.zeros((9, 17, 3), np.uint8)).sum(0), 1, rtol=1e-5)


def test_classes_are_given_names() -> None:
    names = [f"name {index}" for index in range(11)]
    model = models.load("street", names)
    assert model.classes == tuple(names)
    assert model.digest != models.load("street").digest
    with pytest.raises(ConfigError, match="2 classes are named, and street has 11"):
        models.load("street", ["a", "b"])


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(WeightsError, match=r"no model is called 'sceens'.*deeplabv3-resnet101-coco"):
        models.load("sceens")


def test_a_folder_that_no_framework_wrote_is_told_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(
        WeightsError, match=r"is a folder, and it has no config.json with a model_type, as transformers"
    ):
        models.load(str(tmp_path))


@pytest.mark.parametrize("uri", ["missing/weights.pth", "memory://missing/weights.safetensors"])
def test_missing_file(uri: str) -> None:
    with pytest.raises(WeightsError, match=r"missing/weights.*no such"):
        models.load(uri)


def test_neither_torch_nor_safetensors_nor_caffe(tmp_path: Path) -> None:
    for data in (b"", b"<!DOCTYPE html><html>404</html>", b"\x00" * 100, b"12345678{not a header"):
        (tmp_path / "weights.pth").write_bytes(data)
        with pytest.raises(WeightsError, match=r"weights\.pth"):
            models.load(str(tmp_path / "weights.pth"))
