"""Training in one process and in a limited time, as on a machine with a GPU and none of the larger dependencies."""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks import train_alone
from pipeline import models
from pipeline.cli import parse
from pipeline.errors import ConfigError
from pipeline.training.config import TrainConfig
from tests.helpers.labelled import CLASSES, pair, png, put_camvid

ROOT = Path(__file__).parents[1]

BARE_MACHINE = """
import runpy, sys
from importlib.machinery import PathFinder

MISSING = ("ray", "pydensecrf", "s3fs", "aiohttp", "botocore", "jsonargparse", "tensorboardX", "skimage", "sklearn")
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *place: None if name in MISSING else find_spec(name, *place)
sys.argv = ["train_alone", *sys.argv[1:]]
runpy.run_module("benchmarks.train_alone", run_name="__main__")
"""

RECIPE: dict[str, Any] = {
    "name": "small",
    "data_format": "camvid",
    "model": "light",
    "init": None,
    "licence": "CC0-1.0",
    "recipe": {"iterations": 40, "batch": 2, "crop": 49, "freeze_bn": False, "ema_decay": 0.9, "checkpoint_every": 20},
}


@pytest.mark.long
def test_it_goes_on_after_a_kill_and_ends_with_weights(tmp_path: Path) -> None:
    put_camvid(f"{tmp_path}/data", "train", 3)
    put_camvid(f"{tmp_path}/data", "val", 2)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    command = [sys.executable, "-c", BARE_MACHINE, str(recipe), f"--data={tmp_path}/data", f"--output={tmp_path}/out"]
    command += ["--device=cpu", "--loaders=2", "--save-seconds=0.1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        lines = iter(first.stderr.readline, "")
        assert any(line.startswith("step ") and "checkpoint" in line for line in lines)
        first.kill()
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "continuing at step " in again.stderr
    summary = json.loads(again.stdout)
    assert summary["iterations"] == 40  # there is time enough for all
    assert summary["best_step"] in {20, 40}
    assert 0 < summary["mean_iou"] <= 100
    assert models.load(summary["weights"]).card.licence == "CC0-1.0"


def options_of(folder: Path, changes: dict[str, Any], *flags: str) -> argparse.Namespace:
    """Options of a training below `folder` by RECIPE with changes."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE | changes))
    places = [str(recipe), f"--data={folder}/data", f"--output={folder}/out", "--device=cpu", "--loaders=2"]
    return train_alone._parser().parse_args([*places, *flags])


@pytest.fixture
def few_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_alone, "TRIED", 8)


@pytest.mark.usefixtures("few_tried")
def test_it_takes_as_many_steps_as_fit_and_none_where_none_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_camvid(f"{tmp_path}/data", "train", 3)
    changes = {"recipe": RECIPE["recipe"] | {"iterations": 100_000, "crop": 33}, "validation_split": None}
    with pytest.raises(ConfigError, match=r"a step takes .* and -.* s are left to take some; give more --seconds"):
        train_alone.run(options_of(tmp_path, changes, "--seconds=0.1"), time.monotonic())
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(train_alone, "_SPARE", 0.005)  # of nine minutes
    summary = train_alone.run(options_of(tmp_path, changes), time.monotonic())
    assert 1 <= summary["iterations"] == summary["best_step"] < 100_000
    assert summary["mean_iou"] is None
    again = train_alone.run(options_of(tmp_path, changes), time.monotonic())
    assert again["iterations"] == summary["iterations"]


SHORT = {"recipe": RECIPE["recipe"] | {"iterations": 2, "crop": 33}, "validation_split": None}


@pytest.mark.usefixtures("few_tried")
def test_it_goes_on_only_with_the_training_that_was_begun(tmp_path: Path) -> None:
    for split in ("train", "other"):
        put_camvid(f"{tmp_path}/data", split, 3)
    train_alone.run(options_of(tmp_path, SHORT), time.monotonic())
    longer = {"recipe": SHORT["recipe"] | {"iterations": 3}}
    for changes, changed in (
        ({"split": "other"}, r"split train -> other"),
        ({"model": "light-aspp"}, "architecture .* -> "),
        ({"classes": list("abcdefghijk")}, "classes "),
        (longer, "iterations 2 -> 3"),
    ):
        with pytest.raises(ConfigError, match=rf"begun with other settings \({changed}.*or another --output") as told:
            train_alone.run(options_of(tmp_path, SHORT | changes), time.monotonic())
        assert "\n" not in str(told.value)
    (tmp_path / "out" / "iterations").write_bytes(b"many")
    with pytest.raises(ConfigError, match="iterations is no number of steps; give another --output"):
        train_alone.run(options_of(tmp_path, SHORT), time.monotonic())
    (tmp_path / "out" / "settings.json").unlink()
    with pytest.raises(ConfigError, match="has checkpoints of a training that is not known; give another --output"):
        train_alone.run(options_of(tmp_path, SHORT), time.monotonic())


def test_masks_are_those_of_the_chosen_column_and_are_checked(tmp_path: Path) -> None:
    image, mask = (png(plane) for plane in pair(0))
    void = png(np.full((48, 64), 255, np.uint8))
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": [image], "mask": [void], "truth": [mask]}), tmp_path / "data" / "train.parquet")
    changes = SHORT | {"data_format": "parquet", "classes": list(CLASSES)}
    with pytest.raises(ConfigError, match="the masks of the split 'train' hold no pixel that is counted"):
        train_alone.run(options_of(tmp_path, changes), time.monotonic())
    frozen = {"mask_column": "truth", "recipe": {"freeze_bn": True}}  # is refused once the masks are read
    with pytest.raises(ConfigError, match=r"give --recipe\.no-freeze-bn"):
        train_alone.run(options_of(tmp_path, changes | frozen), time.monotonic())


@pytest.mark.parametrize(
    ("changes", "flags", "message"),
    [
        ({}, ["--split=train+val"], r"the split train\+val and the validation split val share 2 pictures"),
        ({"split": "train+val"}, [], r"the split train\+val and the validation split val share 2 pictures"),
        ({"colour": 1}, [], "is no configuration of a training: .*colour"),
        ({"recipe": {"freeze_bn": True}}, [], "give --recipe.no-freeze-bn"),
        ({"recipe": {"base_lr": "fast"}}, [], "recipe.base_lr is 'fast'; give a value of the type float"),
        ({"recipe": {"freeze_bn": "no"}}, [], "recipe.freeze_bn is 'no'; give a value of the type bool"),
        ({"recipe": ["a"]}, [], "where there should be settings"),
        ({}, ["--data-format=bogus"], "data_format is 'bogus'; choose from: voc, camvid, "),
    ],
)
def test_a_recipe_means_what_it_means_to_the_command(
    changes: dict[str, Any], flags: list[str], message: str, tmp_path: Path
) -> None:
    put_camvid(f"{tmp_path}/data", "train", 3)
    put_camvid(f"{tmp_path}/data", "val", 2)
    with pytest.raises(ConfigError, match=message):
        train_alone.run(options_of(tmp_path, changes, *flags), 0.0)


FILES = {
    "numbers": "data_format: camvid\nrecipe: {base_lr: 1e-3, head_weight_lr: 1, freeze_bn: false}\n",
    "dashes": "data-format: camvid\nvalidation-split: null\nrecipe: {checkpoint-every: 7, freeze-bn: false}\n",
    "of the flag": "name: x\n",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_file_means_what_it_means_to_the_command(content: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    given = ["--data=/data", "--output=/out", *([] if "camvid" in content else ["--data-format=camvid"])]
    config = train_alone._config(train_alone._parser().parse_args([str(path), *given]))
    assert config == parse(TrainConfig, "", [f"--config={path}", *given])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "recipe.yaml: there is no such"),
        (b"", "recipe.yaml is no configuration of a training: None stands where there should be settings"),
        (b"name: x", "recipe.yaml is no configuration of a training: .*data_format"),
        (b"- a", r"recipe.yaml is no configuration of a training: \['a'\] stands where there should be settings"),
        (b"a: [", "recipe.yaml is no configuration of a training: while parsing"),
        (b"a: \xff", "recipe.yaml is not text in UTF-8"),
    ],
)
def test_a_file_that_is_none_is_told_in_a_line(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_bytes(content)
    assert train_alone.main([str(path), "--data=/data", f"--output={tmp_path}/out"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(message, line)


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_read_with_its_splits_and_scales(recipe: Path) -> None:
    options = train_alone._parser().parse_args([str(recipe), "--data=/data", "--output=/out", "--init=/weights.pth"])
    config, said = train_alone._config(options), yaml.safe_load(recipe.read_text())
    assert config.recipe.scales == tuple(said["recipe"].get("scales", (1.0,)))
    assert (config.split, config.init) == (said.get("split", "train"), "/weights.pth")
