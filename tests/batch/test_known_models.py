"""What an output keeps on a model: the same as the model itself says, and nothing once anything has changed."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import models, storage
from pipeline.batch import known_models
from pipeline.batch.config import RunConfig
from pipeline.batch.preflight import Preflight, check
from pipeline.batch.run import dataset_info
from pipeline.errors import WeightsError
from pipeline.models import Inference
from pipeline.models.built_in import BUILT_IN
from pipeline.models.checkpoints import native
from pipeline.models.facts import ModelFacts
from tests.helpers.pictures import jpeg, photo


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A run with weights of its own, whose card has costs of labels and scales."""
    storage.put_whole(f"{tmp_path}/in/a.jpg", jpeg(photo(0)))
    for suffix in (".safetensors", ".json"):
        shutil.copy(BUILT_IN / f"street{suffix}", tmp_path / f"own{suffix}")
    return RunConfig(input=f"{tmp_path}/in", output=f"{tmp_path}/out", model=f"{tmp_path}/own.safetensors")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were loaded, in their order."""
    loaded: list[str] = []
    load: Callable[..., Any] = models.load

    def counted(name: str, *more: Any) -> Any:
        loaded.append(name)
        return load(name, *more)

    monkeypatch.setattr(models, "load", counted)
    return loaded


def kept(config: RunConfig) -> Preflight:
    """Check a run, and keep what it has read, as a run does."""
    ready = check(config)
    if ready.facts_place:
        known_models.keep(ready.config, ready.facts_place, ready.facts, lambda: None)
    return ready


def note(ready: Preflight) -> dict[str, Any]:
    """What decides which rows answer for which, and is written beside them."""
    return {name: value for name, value in vars(dataset_info(ready)).items() if name not in {"run_id", "created"}}


def test_the_second_run_knows_what_the_first_has_read(config: RunConfig, loads: list[str]) -> None:
    first = kept(config)
    assert first.facts == ModelFacts.of(first.load())
    assert len(loads) == 1
    second = kept(config)
    assert second.facts == first.facts
    assert note(second) == note(first)
    assert second.refiner.fingerprint() == first.refiner.fingerprint()
    assert len(loads) == 1
    assert second.load().digest == second.load().digest == first.facts.digest
    assert len(loads) == 2  # once it is asked for, and then no more


def test_a_built_in_model_is_known_by_its_name(config: RunConfig, loads: list[str]) -> None:
    config = dataclasses.replace(config, model="scenes")
    assert note(kept(config)) == note(kept(config))
    assert loads == ["scenes"]


def changed_weights(config: RunConfig) -> RunConfig:
    file = Path(str(config.model))
    model = models.load(str(config.model))
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    assert isinstance(model, models.SegmentationModel)
    native.save(model, str(file))
    return config


@pytest.mark.parametrize(
    "change",
    [
        lambda config: dataclasses.replace(config, inference=Inference(scales=(1.0,))),
        lambda config: dataclasses.replace(config, classes=tuple(f"class {index}" for index in range(11))),
        changed_weights,
    ],
)
def test_what_has_changed_is_read_anew(
    config: RunConfig, loads: list[str], change: Callable[[RunConfig], RunConfig]
) -> None:
    before = note(kept(config))
    config = change(config)
    loads.clear()
    after = kept(config)
    assert loads == [str(config.model)]
    assert after.facts == ModelFacts.of(after.load())
    assert note(after) != before


def test_other_code_reads_it_anew(config: RunConfig, loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kept(config)
    monkeypatch.setattr(known_models, "_code", lambda: b"another")
    kept(config)
    assert len(loads) == 2


def test_weights_that_change_while_a_run_lists_are_not_taken_for_those_it_began_with(config: RunConfig) -> None:
    kept(config)
    ready = check(config)
    changed_weights(config)
    with pytest.raises(WeightsError, match="is not what it was when the run began"):
        ready.load()
    first = check(config)
    changed_weights(config)
    assert first.facts_place is not None
    known_models.keep(config, first.facts_place, first.facts, lambda: None)
    assert not storage.exists(first.facts_place)


@pytest.mark.parametrize("damaged", [b"", b"{}", b"[1]", b"\xff", b"[" * 5000])
def test_facts_that_are_damaged_are_read_anew(config: RunConfig, loads: list[str], damaged: bytes) -> None:
    first = kept(config)
    place = known_models.place(config)
    assert place is not None
    storage.put_whole(place, damaged)
    assert kept(config).facts == first.facts
    assert kept(config).facts == first.facts
    assert len(loads) == 2


def test_weights_that_are_no_file_here_are_read_each_time(config: RunConfig) -> None:
    for model in ("s3://bucket/a.safetensors", "hf:org/name", "no-such-name", f"{config.input}", "a.onnx"):
        assert known_models.place(dataclasses.replace(config, model=model)) is None
