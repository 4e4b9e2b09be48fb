"""Every job that writes an output holds its lock: the second one on it names the first, and writes nothing."""

import json
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.commands.evaluate import command as evaluate
from pipeline.commands.search_crf import command as search_crf
from pipeline.commands.segment import command as segment_bucket
from pipeline.commands.train import command as train
from pipeline.commands.train_scenes import command as train_scenes
from pipeline.runtime.lock import Lock, held
from pipeline.scenes import CLASSES
from tests.helpers.labelled import put_camvid
from tests.helpers.pictures import jpeg, photo

LABELLED = ("--data={}/data", "--data-format=camvid", f"--classes={json.dumps(CLASSES)}", "--output={}/out")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    storage.put_whole(f"{folder}/in/a.jpg", jpeg(photo(0)))
    for split in ("train", "val"):
        put_camvid(f"{folder}/data", split, 2)
    return folder


@pytest.mark.parametrize(
    ("main", "flags", "folder", "place"),
    [
        (segment_bucket.main, ("--input={}/in", "--output={}/out", "--model=scenes"), "out", "_runs/lock.json"),
        (evaluate.main, (*LABELLED, "--model=scenes"), "out", "_lock.json"),
        (search_crf.main, (*LABELLED, "--model=scenes"), "out", "_lock.json"),
        (train.main, (*LABELLED, "--recipe.no-freeze-bn", "--name=streets"), "out/streets", "_lock.json"),
        (train_scenes.main, ("--output={}/out",), "out", "_lock.json"),
    ],
    ids=["segment_bucket", "evaluate", "search_crf", "train", "train_scenes"],
)
def test_a_second_run_names_the_first(
    cluster: None, data: Path, main: Callable[[list[str]], int], flags: tuple[str, ...], folder: str, place: str
) -> None:
    with held(Lock(output=f"{data}/{folder}", place=place, run_id="first", beat=0.3)):
        before = sorted(data.glob("out/**"))
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            code = main([flag.format(data) for flag in flags])
        assert (code, out.getvalue()) == (1, "")
        last = err.getvalue().splitlines()[-1]
        assert f": run first (process {os.getpid()} on " in last
        assert f") has the lock of {data}/{folder}; wait until it ends, then run the same command" in last
        noted = [path for path in data.glob("out/_runs/*") if path.name != "lock.json"]  # a run notes its settings
        assert [path for path in sorted(data.glob("out/**")) if path not in {*before, *noted}] == []
