"""Recounting an output: what is sound passes, each kind of damage is named, and a repair leaves what opens."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import masks, storage
from pipeline.batch.rows import FINISHED
from pipeline.batch.sink import write_files
from pipeline.commands.verify import command as verify_output
from pipeline.data import rows
from tests.helpers.dataset import finished_row, info


def commit(output: str, run: int, *finished: dict[str, object]) -> None:
    note = info(run_id=f"run{run}", created=f"2026-01-01T00:0{run}:00+00:00")
    one = [row | ({"classes": CLASSES} if "mask" in row else {}) for row in finished]
    write_files(output, f"run{run}-00000.parquet", note, rows.table(one, FINISHED))


CLASSES = [{"id": i, "name": str(i), "pixels": n, "confidence": 0.5} for i, n in enumerate((3, 2, 1))]


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest) -> str:
    uri = str(request.getfixturevalue({"local": "tmp_path", "s3": "bucket"}[request.param]))
    commit(uri, 0, finished_row("a"), finished_row("b"), finished_row("c", failed=True))
    return uri


def wrong(output: str) -> str:
    return "\n".join(problem.what for problem in masks.verify(output).problems)


def test_changed_images_and_errors_tried_again_are_sound(output: str) -> None:
    storage.put_whole(f"{output}/_runs/run1/config.yaml", b"retry_errors: true")
    commit(output, 1, finished_row("a", version="2"), finished_row("c"))
    count = masks.verify(output)
    assert (count.files, count.segmented, count.failed, count.replaced, count.problems) == (3, 3, 0, 2, ())


def test_an_error_that_another_run_was_not_to_try_again_has_two_rows(output: str) -> None:
    storage.put_whole(f"{output}/_runs/run1/config.yaml", b"retry_errors: false")
    commit(output, 1, finished_row("c"))
    assert "the key 'c' has a second row, by run run1 after run run0" in wrong(output)


@pytest.mark.parametrize(
    ("png", "message"),
    [
        (masks.encode_confidence(np.zeros((2, 3), np.uint8)), ""),
        (masks.encode_confidence(np.zeros((3, 2), np.uint8)), "map of 'd' is (3, 2), and the row says (2, 3)"),
        (finished_row("d")["mask"]["bytes"], "map of 'd': a confidence map is an 8-bit grey PNG"),
        (b"", "map of 'd': the confidence map is not a readable PNG"),
    ],
)
def test_a_confidence_map_is_a_grey_picture_of_the_masks_size(output: str, png: bytes, message: str) -> None:
    commit(output, 1, finished_row("d") | {"confidence_map": {"bytes": png, "path": None}})
    found = wrong(output)
    assert message in found
    assert bool(found) == bool(message)


@pytest.mark.parametrize("failed", [False, True])
def test_a_second_row_is_named(output: str, failed: bool) -> None:
    commit(output, 1, finished_row("b", failed=failed))
    assert "the key 'b' has a second row, by run run1 after run run0" in wrong(output)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 3}, "is (2, 3), and the row says (3, 3)"),
        ({"classes": CLASSES[:2]}, "other classes or pixels"),
        ({"mask": {"bytes": b"no", "path": None}}, "not a readable PNG"),
    ],
)
def test_a_mask_that_is_not_what_its_row_says(output: str, change: dict[str, object], message: str) -> None:
    note = info(run_id="run1")
    bad = finished_row("d") | {"classes": CLASSES} | change
    write_files(output, "run1-00000.parquet", note, rows.table([bad], FINISHED))
    assert message in wrong(output)


def test_a_summary_that_counts_more_images_than_have_rows(output: str) -> None:
    summary = {"listed": 4, "generation": "g"}
    storage.put_whole(f"{output}/_runs/run1/summary.json", json.dumps(summary).encode())
    assert wrong(output) == "says that 4 images are done; 3 have a row; run the job again"
    commit(output, 2, finished_row("d"))
    assert wrong(output) == ""


def test_images_that_a_run_has_left_need_no_row(output: str) -> None:
    summary = {"listed": 9, "left": 6, "generation": "g"}
    storage.put_whole(f"{output}/_runs/run1/summary.json", json.dumps(summary).encode())
    assert wrong(output) == ""
    storage.put_whole(f"{output}/_runs/run1/summary.json", json.dumps(summary | {"left": 5}).encode())
    assert wrong(output) == "says that 4 images are done; 3 have a row; run the job again"


def test_a_summary_that_is_cut_off_is_a_problem(output: str) -> None:
    storage.put_whole(f"{output}/_runs/run0/summary.json", b'{"listed": 4,')
    assert "cannot be read" in wrong(output)


def test_a_damaged_staged_file_is_set_aside(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was killed has left it, and the next one cannot move it."""
    row = finished_row("d") | {"classes": CLASSES}
    write_files(f"{output}/_staged", "run1-00001.parquet", info(run_id="run1"), rows.table([row], FINISHED))
    assert wrong(output) == ""
    storage.put_whole(f"{output}/_staged/masks/run1-00001.parquet", b"PAR1")
    assert "cannot be read" in wrong(output)
    assert verify_output.main([output, "--repair"]) == 1
    assert storage.exists(f"{output}/_quarantine/_staged/masks/run1-00001.parquet")
    assert wrong(output) == ""


def test_damaged_settings_of_a_run_cost_neither_its_summary_nor_its_masks(output: str) -> None:
    """It may have done errors again, as here."""
    commit(output, 1, finished_row("c"))
    storage.put_whole(f"{output}/_runs/run1/config.yaml", b"retry_errors: [")
    storage.put_whole(f"{output}/_runs/run1/summary.json", b'{"listed": 3, "generation": "g"}')
    for _ in range(2):
        assert [problem.uri for problem in masks.verify(output).problems] == [f"{output}/_runs/run1/config.yaml"]
        assert verify_output.main([output, "--repair"]) == 1
    assert sorted(key for key, _ in masks.read(output)) == ["a", "b", "c"]


def test_where_no_output_is_nothing_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_output.main([f"{tmp_path}/nowhere"]) == 2
    assert "no output at" in capsys.readouterr().err


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_repair_sets_half_a_file_aside(output: str, kept: float, capsys: pytest.CaptureFixture[str]) -> None:
    commit(output, 1, finished_row("d"), finished_row("e"))
    whole = storage.read_bytes(f"{output}/masks/run1-00000.parquet")
    storage.put_whole(f"{output}/masks/run1-00000.parquet", whole[: int(len(whole) * kept)])
    assert verify_output.main([output]) == 1
    assert "run1-00000.parquet: cannot be read" in capsys.readouterr().err
    assert verify_output.main([output, "--repair"]) == 1
    capsys.readouterr()
    assert verify_output.main([output]) == 0
    assert json.loads(capsys.readouterr().out)["segmented"] == 2
    assert sorted(key for key, _ in masks.read(output)) == ["a", "b"]
    aside = storage.read_bytes(f"{output}/_quarantine/masks/run1-00000.parquet")
    assert aside == whole[: int(len(whole) * kept)]


def test_damaged_pages_are_found(tmp_path: Path) -> None:
    commit(str(tmp_path), 0, *(finished_row(f"{n}") for n in range(50)))
    path = tmp_path / "masks" / "run0-00000.parquet"
    data = bytearray(path.read_bytes())
    pages = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(0).column(0)
    start = pages.dictionary_page_offset or pages.data_page_offset
    data[start + 20 : start + 60] = bytes(40)
    path.write_bytes(bytes(data))
    assert masks.verify(str(tmp_path)).problems
