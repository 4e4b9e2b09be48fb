"""Where Ray's own limit on standing still is set, every job that it strikes ends with one line and exit code 1."""

import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest
from ray.data import DataContext

from jobs import evaluate, search_crf, segment_bucket, train
from pipeline import storage
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


@pytest.mark.parametrize(
    ("main", "flags"),
    [
        (segment_bucket.main, ("--input={}/in", "--output={}/out")),
        (evaluate.main, ("--data={}/data", "--data-format=camvid", "--model=scenes")),
        (search_crf.main, ("--data={}/data", "--data-format=camvid", "--model=scenes", "--output={}/out")),
        (train.main, ("--data={}/data", "--data-format=camvid", "--output={}/out", "--recipe.freeze_bn=false")),
    ],
    ids=["segment_bucket", "evaluate", "search_crf", "train"],
)
def test_a_run_that_stands_still_too_long_ends_in_a_line(
    data, main: Callable[[list[str]], int], flags: tuple[str, ...]
) -> None:
    classes = [] if main is segment_bucket.main else [f"--classes={json.dumps(CLASSES)}"]
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = main([*(flag.format(data) for flag in flags), *classes])
    assert (code, out.getvalue()) == (1, ""), err.getvalue()
    assert ": nothing moved for as long as RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S allows; " in err.getvalue()
    assert "Traceback" not in err.getvalue()
