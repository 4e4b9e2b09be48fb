"""What a training run makes of its configuration before Ray starts, and what it may go on from."""

import json
import re
from dataclasses import replace

import pytest

from pipeline import models, storage
from pipeline.errors import ConfigError
from pipeline.metrics import SegmentationScore
from pipeline.refine.crf import CRFParams
from pipeline.scenes import CLASSES as SCENE_CLASSES
from pipeline.scenes import scene
from pipeline.storage.outages import retry_seconds
from pipeline.training import run
from pipeline.training.checkpoints import Checkpoints, Note
from pipeline.training.config import TrainConfig
from pipeline.training.recipe import Recipe
from pipeline.training.validation import mean_iou
from tests.helpers.labelled import CLASSES, put_camvid, put_webdataset

SMALL = Recipe(iterations=2, batch=2, crop=33, freeze_bn=False)


@pytest.fixture
def config(tmp_path):
    for split, count in (("train", 2), ("val", 1)):
        put_camvid(f"{tmp_path}/streets", split, count)
    return TrainConfig(
        data=f"{tmp_path}/streets", data_format="camvid", output=f"{tmp_path}/out", classes=CLASSES, recipe=SMALL
    )


def test_a_model_is_scored_at_the_scales_it_is_exported_with(config):
    recipe = replace(SMALL, scales=(1.0, 0.5))
    assert run.prepare(replace(config, recipe=recipe)).model.card.scales == (1.0, 0.5)


def test_validation_runs_the_scales_of_the_card():
    model = models.load("scenes")
    pairs = [scene(seed, (97, 65)) for seed in range(2)]
    found = []
    for scales in ((1.0,), (1.0, 0.5)):
        model.card = replace(model.card, scales=scales)
        score = SegmentationScore(len(SCENE_CLASSES))
        for image, mask in pairs:
            score.update(mask, model.probabilities(image).argmax(axis=0).astype("uint8"))
        found.append(score.mean_iou)
        assert mean_iou(model, pairs) == pytest.approx(score.mean_iou, abs=2e-3)
    assert abs(found[0] - found[1]) > 0.005


def test_given_classes_keep_the_void_and_the_palette_of_the_data_set(config):
    ready = run.prepare(replace(config, classes=tuple("abcdefghijk")))
    assert ready.labels.void == 11
    assert ready.model.card.palette[0] == (128, 128, 128)


@pytest.mark.parametrize(
    ("model", "crf"),
    [
        ("vgg16-largefov", CRFParams(gaussian_weight=2, gaussian_xy=2, bilateral_weight=4, bilateral_xy=65)),
        ("resnet50-aspp", CRFParams(gaussian_weight=3, gaussian_xy=1, bilateral_weight=4, bilateral_xy=67)),
    ],
)
def test_a_card_has_the_crf_that_was_released_for_its_backbone(config, model, crf):
    card = run.prepare(replace(config, model=model)).model.card
    assert len(card.crf) == 5
    assert CRFParams(**card.crf) == crf


def test_a_card_tells_no_path_of_the_machine_it_was_made_on(config, tmp_path):
    ready = run.prepare(replace(config, init="efficientnet-lite0-imagenet"))
    uri = run._export(ready.model, ready.config, Note(step=2, loss=1.0, mean_iou=None, digest=""))
    card = models.load(uri).card
    assert card.training_split == "train of streets"
    assert card.source == "deeplab-buckets train, step 2 of 2; backbone from efficientnet-lite0-imagenet"
    assert str(tmp_path) not in json.dumps(card.to_dict())


FROZEN = replace(SMALL, freeze_bn=True)


@pytest.mark.parametrize(
    ("model", "init", "message"),
    [
        ("light", None, "the head and backbone of light would begin with some that has seen no picture"),
        ("light", "efficientnet-lite0-imagenet", "the head of light would begin"),
        ("light-aspp", None, "the backbone of light-aspp would begin"),
    ],
)
def test_new_batch_normalisation_is_not_frozen(config, model, init, message):
    with pytest.raises(ConfigError, match=f"{message}.*; give --recipe.no-freeze-bn") as refused:
        run.prepare(replace(config, model=model, init=init, recipe=FROZEN))
    assert str(refused.value).endswith(", or weights by --init") == (model == "light-aspp")


@pytest.mark.parametrize(("model", "init"), [("light-aspp", "efficientnet-lite0-imagenet"), ("vgg16-largefov", None)])
def test_loaded_batch_normalisation_may_be_frozen(config, model, init):
    run.prepare(replace(config, model=model, init=init, recipe=FROZEN))


def test_a_recipe_that_gives_batch_normalisation_one_value_is_refused(config):
    recipe = replace(SMALL, accumulate=2)
    with pytest.raises(ConfigError, match="would go through its pictures one at a time"):
        run.prepare(replace(config, model="deeplabv3-resnet50", recipe=recipe))
    run.prepare(replace(config, model="deeplabv3-resnet50"))


def put_checkpoint(config):
    checkpoints = Checkpoints(folder=config.folder, check=lambda: None)
    checkpoints.put(b"state", step=1, loss=1.0, mean_iou=None)


@pytest.fixture
def begun(config):
    """A run that was stopped after it had begun."""
    ready = run.prepare(config)
    storage.put_whole(f"{config.output}/model/settings.json", ready.settings)
    put_checkpoint(config)
    run.prepare(config)
    return config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation_split": None}, r"validation_split val -> None, validation_pictures 1 \(.*\) -> 0 \("),
        ({"split": "val"}, r"split train -> val, training_pictures 2 \(digest \w+\) -> 1 \(digest \w+\)"),
        ({"recipe": replace(SMALL, base_lr=0.5)}, "base_lr 0.00025 -> 0.5"),
        ({"classes": ("a", "b", "c")}, "classes"),
    ],
)
def test_a_run_goes_on_with_the_settings_it_was_begun_with(begun, change, message):
    with pytest.raises(ConfigError, match=f"the run 'model' was begun with other settings .*{message}"):
        run.prepare(replace(begun, **change))


def test_a_name_without_a_checkpoint_may_be_begun_anew(config):
    ready = run.prepare(config)
    storage.put_whole(f"{config.output}/model/settings.json", ready.settings)
    other = replace(config, recipe=replace(SMALL, base_lr=0.5))
    run.prepare(other)
    put_checkpoint(config)
    with pytest.raises(ConfigError, match="was begun with other settings"):
        run.prepare(other)


@pytest.mark.parametrize("split", ["val", "train+val"])
def test_pictures_that_are_trained_on_are_not_scored_on(config, split):
    with pytest.raises(ConfigError, match=r"the validation split val share 1 pictures, such as val/.*null for none"):
        run.prepare(replace(config, split=split))
    assert run.prepare(replace(config, split=split, validation_split=None)).validation == []


def test_a_run_with_checkpoints_of_an_older_layout_is_not_begun_anew(begun):
    uri = f"{begun.output}/model/settings.json"
    older = {name: value for name, value in json.loads(storage.read_bytes(uri)).items() if name != "checkpoints"}
    storage.put_whole(uri, json.dumps(older).encode())
    with pytest.raises(ConfigError, match=r"settings \(checkpoints None -> checkpoints/STEP.pt\)"):
        run.prepare(begun)


def test_a_run_of_before_a_field_of_the_recipe_had_that_fields_default(begun):
    uri = f"{begun.output}/model/settings.json"
    older = json.loads(storage.read_bytes(uri))
    del older["recipe"]["ema_decay"]
    storage.put_whole(uri, json.dumps(older).encode())
    run.prepare(begun)
    with pytest.raises(ConfigError, match=r"ema_decay 0\.0 -> 0\.5"):
        run.prepare(replace(begun, recipe=replace(SMALL, ema_decay=0.5)))


@pytest.mark.usefixtures("cluster")
def test_a_run_that_ended_since_this_one_looked_is_not_trained_again(begun):
    ready = run.prepare(begun)
    storage.put_whole(f"{begun.output}/model/summary.json", b"{}")
    with pytest.raises(ConfigError, match="is finished"):
        run.run(ready)


def test_a_run_goes_on_with_the_pictures_it_was_begun_with(begun, tmp_path):
    (tmp_path / "streets" / "train" / "001.png").rename(tmp_path / "streets" / "train" / "002.png")
    (tmp_path / "streets" / "trainannot" / "001.png").rename(tmp_path / "streets" / "trainannot" / "002.png")
    with pytest.raises(ConfigError, match=r"settings \(training_pictures 2 \(digest \w+\) -> 2 \(digest \w+\)\)"):
        run.prepare(begun)


def test_a_run_goes_on_in_the_layout_it_was_begun_with(begun):
    for split in ("train", "val"):
        put_webdataset(begun.data, split, 2)
    with pytest.raises(ConfigError, match=re.escape("settings (data_format camvid -> webdataset, ")):
        run.prepare(replace(begun, data_format="webdataset"))


@pytest.mark.usefixtures("cluster")
def test_a_run_waits_for_its_storage(config, monkeypatch):
    class ReachedError(Exception):
        pass

    def fit(*_, **__):
        raise ReachedError(retry_seconds())

    loaded = []
    monkeypatch.setattr(run, "load", lambda pairs, labels, split: loaded.append(retry_seconds()))
    monkeypatch.setattr(run, "fit", fit)
    with pytest.raises(ReachedError) as reached:
        run.run(run.prepare(replace(config, storage_timeout=7.0)))
    assert reached.value.args == (7.0,)
    assert loaded == [7.0, 7.0]
    assert retry_seconds() == 0
