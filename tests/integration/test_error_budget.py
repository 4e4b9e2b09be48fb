"""A run whose images mostly fail stops early, leaves a sound output, and is continued by the same command."""

import pytest

from pipeline import masks, storage
from pipeline.batch import run
from tests.helpers.pictures import jpeg, photo
from tests.helpers.segmenting import last_line, run_job

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

BROKEN, GOOD = 60, 20


def test_a_run_that_exceeds_its_budget_stops_early_and_is_continued(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_JUDGE_SECONDS", 0.1)
    for i in range(BROKEN):
        storage.put_whole(f"{bucket}/in/a-{i:03d}.jpg", b"not an image")
    for i in range(GOOD):
        storage.put_whole(f"{bucket}/in/b-{i:03d}.jpg", jpeg(photo(i, 150, 200)))
    flags = (f"--input={bucket}/in", f"--output={bucket}/out")
    slowly = ("--refine.backend=pydensecrf",)  # enough to be stopped in the middle
    code, out, err = run_job(*flags, *slowly)
    assert code == 3, err
    stopped = last_line(out)
    done = stopped["segmented"] + stopped["failed"]
    assert stopped["left"] == BROKEN + GOOD - done > 0
    assert stopped["failed"] > 0.01 * (BROKEN + GOOD)
    [line] = [line for line in err.splitlines() if line.startswith("segment: ")]
    assert line.startswith(f"segment: stopped early: {stopped['failed']} of {done} images failed; see ")
    assert line.endswith(f"the same command goes on with the {stopped['left']} that are left")
    verified = masks.verify(f"{bucket}/out")
    assert verified.problems == ()
    assert (verified.segmented, verified.failed) == (stopped["segmented"], stopped["failed"])

    code, out, err = run_job(*flags, *slowly, "--error-budget=1")
    assert code == 0, err
    rest = last_line(out)
    assert (rest["skipped"], rest["left"]) == (done, 0)
    assert stopped["segmented"] + rest["segmented"] == GOOD
    assert stopped["failed"] + rest["failed"] == BROKEN
    verified = masks.verify(f"{bucket}/out")
    assert verified.problems == ()
    assert (verified.segmented, verified.failed) == (GOOD, BROKEN)
