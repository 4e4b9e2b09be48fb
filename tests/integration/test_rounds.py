"""A run that works while its input is still being listed, in rounds, and one whose listing fails in the middle."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import masks, storage
from pipeline.batch import ahead, parts
from pipeline.batch import run as batch_run
from pipeline.batch.manifest import Ids
from pipeline.errors import StorageError
from tests.helpers.pictures import jpeg, photo
from tests.helpers.segmenting import run_job, summary

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

COUNT = 24


def test_the_first_mask_does_not_wait_for_the_last_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which fails as soon as there is a mask. The second run does the rest, and an image that has changed."""
    monkeypatch.setattr(parts, "_LEAST_IDS", 2)
    monkeypatch.setattr(parts, "_MOST_IDS", 2)
    monkeypatch.setattr(ahead, "_FIRST_SECONDS", 0.1)
    monkeypatch.setattr(ahead, "_LATER_SECONDS", 0.1)
    for n in range(COUNT):
        data = b"broken" if n == 3 else jpeg(photo(n))
        storage.put_whole(f"{tmp_path}/in/{n:02d}.jpg", data)
    output, fails = tmp_path / "out", True
    whole = batch_run.list_input

    def list_slowly(*of_input: Any) -> Any:
        listing, ids = whole(*of_input)
        return listing, slowly(ids)

    def slowly(listed: Iterator[Ids]) -> Iterator[Ids]:
        for ids in listed:
            for n in range(ids.table.num_rows):
                yield Ids(ids.table.slice(n, 1))
                if fails and n == COUNT // 2:
                    wait_for_masks(output)
                    raise StorageError("the bucket has gone")

    monkeypatch.setattr(batch_run, "list_input", list_slowly)
    flags = ("--input", f"{tmp_path}/in", "--output", str(output), "--refine.backend=none", "--error-budget=1")
    flags = (*flags, "--commit-seconds=0.5")
    code, out, err = run_job(*flags)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "segment: the bucket has gone"
    assert " images listed so far, 0 done already, " in err
    first = masks.verify(str(output))
    assert first.problems == ()
    assert 0 < first.segmented + first.failed < COUNT

    fails = False
    changed, _ = next(masks.read(str(output)))
    storage.put_whole(f"{tmp_path}/in/{changed}", jpeg(photo(99)))
    done = summary(*flags, "--compact")
    assert not list(output.glob("_staged/*/*"))
    assert (done["listed"], done["left"]) == (COUNT, 0)
    assert done["skipped"] == first.segmented + first.failed - 1
    found = masks.verify(str(output))
    assert found.problems == ()
    assert (found.segmented, found.failed, found.replaced) == (COUNT - 1, 1, 1)
    assert len(list(masks.read(str(output)))) == COUNT - 1
    monkeypatch.undo()
    assert summary(*flags)["skipped"] == COUNT


def wait_for_masks(output: Path) -> None:
    deadline = time.monotonic() + 300
    while not list(output.glob("masks/*")):
        assert time.monotonic() < deadline, "the work waits for the listing"
        time.sleep(0.05)
