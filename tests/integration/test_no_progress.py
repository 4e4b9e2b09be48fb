"""Where Ray's own limit on standing still is set, every job that it strikes ends with one line and exit code 1."""

import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from ray.data import DataContext

from pipeline import storage
from pipeline.commands.evaluate import command as evaluate
from pipeline.commands.search_crf import command as search_crf
from pipeline.commands.segment import command as segment_bucket
from pipeline.commands.train import command as train
from pipeline.evaluation import crf_search, run
from pipeline.scenes import CLASSES
from tests.helpers.labelled import put_camvid
from tests.helpers.pictures import jpeg, photo

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A little of everything; and a limit that any work exceeds."""
    monkeypatch.setenv("RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S", "0.001")
    monkeypatch.setattr(DataContext.get_current(), "execution_no_progress_timeout_s", 0.001)
    storage.put_whole(f"{tmp_path}/in/a.jpg", jpeg(photo(0)))
    for split in ("train", "val"):
        put_camvid(f"{tmp_path}/data", split, 2)
    return tmp_path


LABELLED = ("--data={}/data", "--data-format=camvid")


@pytest.mark.parametrize(
    ("main", "flags"),
    [
        (segment_bucket.main, ("--input={}/in", "--output={}/out", "--model=scenes")),
        (evaluate.main, (*LABELLED, "--model=scenes")),
        (search_crf.main, (*LABELLED, "--model=scenes", "--output={}/out")),
        (train.main, (*LABELLED, "--output={}/out", "--recipe.no-freeze-bn")),
    ],
    ids=["segment_bucket", "evaluate", "search_crf", "train"],
)
def test_a_run_that_stands_still_too_long_ends_in_a_line(
    data, main: Callable[[list[str]], int], flags: tuple[str, ...]
) -> None:
    ends_in_a_line(main, flags, data)


@pytest.mark.parametrize(("module", "main"), [(run, evaluate.main), (crf_search, search_crf.main)])
def test_so_does_one_that_stands_still_once_its_pictures_are_fetched(data, monkeypatch, module, main) -> None:
    fetch = module.fetch_labelled

    def without_limit(*args):
        context = DataContext.get_current().copy()
        context.execution_no_progress_timeout_s = -1
        with DataContext.current(context):
            return fetch(*args)

    monkeypatch.setattr(module, "fetch_labelled", without_limit)
    messages = ends_in_a_line(main, (*LABELLED, "--model=scenes", "--output={}/out"), data)
    assert "2 labelled images; plan: " in messages


def ends_in_a_line(main: Callable[[list[str]], int], flags: tuple[str, ...], data: Path) -> str:
    """Run a job, which the limit strikes; returns its messages."""
    classes = [] if main == segment_bucket.main else [f"--classes={json.dumps(CLASSES)}"]
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = main([*(flag.format(data) for flag in flags), *classes])
    assert (code, out.getvalue()) == (1, ""), err.getvalue()
    assert ": nothing moved for as long as RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S allows; " in err.getvalue()
    assert "Traceback" not in err.getvalue()
    return err.getvalue()
