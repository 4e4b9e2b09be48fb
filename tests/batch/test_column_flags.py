"""The flags that choose columns: a line says what is read, and what cannot be read ends with exit code 2."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.batch.config import RunConfig
from pipeline.batch.preflight import check
from pipeline.cli import parse
from pipeline.commands.segment import command as segment_bucket
from pipeline.errors import ConfigError
from pipeline.training import run
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.config import TrainConfig
from pipeline.training.recipe import Recipe
from tests.helpers.labelled import CLASSES, pair, png
from tests.helpers.shards import parquet_bytes


def put(folder: Path, **columns: object) -> Path:
    folder.mkdir()
    (folder / "train.parquet").write_bytes(parquet_bytes(pa.table(columns), 2))
    return folder


def test_the_job_says_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = put(tmp_path / "in", image=[b"x"], id=["a"], note=["b"])
    flags = [f"--input={folder}", f"--output={tmp_path}/out", "--model=scenes"]
    check(parse(RunConfig, "", flags))
    columns, keys = capsys.readouterr().err.splitlines()
    assert columns == f"{folder}/train.parquet: images from column `image`, keys from `id`"
    assert keys == "keys of images in Parquet files begin with the file's path, as in train.parquet/NAME"
    check(parse(RunConfig, "", [*flags, "--key-column=note"]))
    assert "images from column `image`, keys from `note`\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "has 2 columns that fit equally, left, right; choose one with --image-column"),
        (("--image-column=middle",), "--image-column is 'middle', and "),
        (("--image-column=left", "--key-column=left"), "--key-column is 'left', and "),
        (("--input-format=images", "--key-column=id"), "no images among the first 1 names"),
    ],
)
def test_what_cannot_be_read_ends_with_2_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    folder = put(tmp_path / "in", left=[b"x"], right=[b"y"], id=["a"])
    assert segment_bucket.main([f"--input={folder}", f"--output={tmp_path}/out", "--model=scenes", *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_training_says_what_it_reads_and_goes_on_only_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = (png(plane) for plane in pair(0))
    folder = put(tmp_path / "in", image=[image], mask=[mask], truth=[mask], id=["a"])
    options = {"validation_split": None, "classes": CLASSES, "recipe": Recipe(iterations=2, batch=1, freeze_bn=False)}
    config = TrainConfig(data=f"{folder}", data_format="parquet", output=f"{tmp_path}/out", **options)
    ready = run.prepare(config)
    file = f"{folder}/train.parquet"
    assert capsys.readouterr().err == f"{file}: images from column `image`, keys from `id`, masks from column `mask`\n"
    (tmp_path / "out" / "model").mkdir()
    (tmp_path / "out" / "model" / "settings.json").write_bytes(ready.settings)
    Checkpoints(folder=config.folder, check=lambda: None).put(b"state", step=1, loss=1.0, mean_iou=None)
    with pytest.raises(ConfigError, match=r"begun with other settings \(mask_column None -> truth"):
        run.prepare(replace(config, mask_column="truth"))
