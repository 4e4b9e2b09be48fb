"""The job that makes the built-in model, in miniature; and the model that it made."""

import json

from pipeline import models
from pipeline.commands.train_scenes import command as train_scenes
from pipeline.models.built_in import BUILT_IN
from pipeline.refine.crf import CRFParams
from pipeline.scenes import CLASSES
from pipeline.training.scenes import validate
from pipeline.training.scenes_config import ScenesConfig

TINY = ("--recipe.iterations=2", "--recipe.batch=1", "--recipe.crop=33", "--validation=1", "--crf.bilateral_rgb=5")


def test_it_exports_a_model_that_loads_and_goes_on_where_it_was(tmp_path, capsys):
    summaries = []
    for _ in range(2):
        assert train_scenes.main([f"--output={tmp_path}", *TINY]) == 0
        summaries.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    first, again = summaries
    assert first["output"] == f"{tmp_path}/scenes.safetensors"
    model = models.load(first["output"])
    assert model.classes == CLASSES
    assert model.card.crf["bilateral_rgb"] == 5
    assert list(model.card.scores.values()) == [first["mean_iou"], first["mean_iou_refined"]]
    assert again["mean_iou"] == first["mean_iou"]


def test_a_recipe_that_cannot_be_used_ends_with_2_and_one_line(tmp_path, capsys):
    assert train_scenes.main([f"--output={tmp_path}", "--recipe.crop=32"]) == 2
    assert capsys.readouterr().err == "train-scenes: recipe.crop is 32; it must be 8m + 1, such as 257 or 321\n"


def test_a_damaged_checkpoint_ends_it_with_2_and_one_line(tmp_path, capsys):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04rest")
    assert train_scenes.main([f"--output={tmp_path}", *TINY]) == 2
    assert capsys.readouterr().err == (
        "train-scenes: the checkpoint is damaged (RuntimeError); remove it, or start anew at another output\n"
    )


def test_the_built_in_model_is_small_and_the_crf_adds_to_it():
    model = models.load("scenes")
    assert model.classes == CLASSES
    assert sum((BUILT_IN / name).stat().st_size for name in ("scenes.safetensors", "scenes.json")) < 12e6
    config = ScenesConfig(output="unused", validation=8, crf=CRFParams(**model.card.crf))
    scores = validate(model, config)
    assert scores["mean_iou"] > 55
    assert scores["mean_iou_refined"] > scores["mean_iou"] + 1.5
