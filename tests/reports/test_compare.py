"""What two sets of masks have in common: known differences come out as figures, on the page, and as an exit code."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.commands.compare import command as job
from pipeline.commands.report import command as report
from pipeline.errors import ConfigError
from pipeline.reports.compare import CompareConfig, compare
from pipeline.reports.comparison import Confusion
from pipeline.storage import Uri
from tests.helpers.outputs import blocks, failure, note, put_rows, row

HOSTILE = "</script><b>tree"


def put_pair(folder: Path) -> tuple[str, str]:
    """Write A, and B: classes in another order and one more, a quarter of image 0 another class, image 3 only in B."""
    a = note(classes=("ground", HOSTILE, "sky"), run=1)
    b = note(classes=("sky", "ground", HOSTILE, "sea"), palette=((0, 0, 9), (0, 9, 0), (9, 0, 0), (9, 9, 0)), run=2)
    rows: dict[str, list[dict[str, object]]] = {"a": [], "b": []}
    for n in range(4):
        mask = np.full((8, 8), n % 3, np.uint8)
        again = np.array([1, 2, 0], np.uint8)[mask]
        if n == 0:
            again[:2] = 3
        if n < 3:
            rows["a"].append(row(f"{n}", mask, a, confidence=0.8))
        rows["b"].append(row(f"{n}", again, b, confidence=0.7))
    put_rows(f"{folder}/a", a, rows["a"])
    put_rows(f"{folder}/b", b, rows["b"], [failure("cut", b)])
    return f"{folder}/a", f"{folder}/b"


def test_known_differences_come_out(tmp_path):
    a, b = put_pair(tmp_path)
    drift = compare(CompareConfig(output_a=Uri(a), output_b=Uri(b), to=Uri(f"{tmp_path}/page.html")))
    assert (drift.images_a, drift.images_b, drift.compared) == (3, 4, 3)
    assert drift.disagreement == pytest.approx(16 / 192)
    assert drift.confidence_drift == pytest.approx(0.1)
    # ground 64 of 192 becomes 112 of 256, tree and sky 64 of 192 become 64 of 256, sea comes with 16
    assert drift.share_drift == pytest.approx(2 * (1 / 3 - 1 / 4))
    assert drift.drift == pytest.approx(drift.share_drift)
    page = (tmp_path / "page.html").read_text()
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    images = json.loads(found[1])["images"]
    assert images[0]["key"] == "0"
    assert images[0]["disagreement"] == pytest.approx(0.25)
    assert all(image["before"] and image["after"] for image in images if image["key"] != "3")
    assert HOSTILE not in page
    assert page.index(">sea</th>") < page.index("Confusion</h2>")


def test_agreement_is_that_of_the_pixels():
    confusion = Confusion(["x", "y"], ["y", "z"])
    assert confusion.agreement is None
    a, b = np.array([[0, 1, 1, 1]], np.uint8), np.array([[0, 0, 0, 1]], np.uint8)
    assert confusion.add(a, b) == 0.5
    assert confusion.classes == ("x", "y", "z")
    assert confusion.matrix.tolist() == [[0, 1, 0], [0, 2, 1], [0, 0, 0]]
    assert confusion.iou.tolist() == [0, 0.5, 0]


def test_above_what_is_allowed_the_exit_code_is_4(tmp_path, capsys):
    a, b = put_pair(tmp_path)
    assert job.main([a, b, "--max-drift", "0.2"]) == 0
    assert job.main([a, b, "--max-drift", "0.1"]) == 4
    out, err = capsys.readouterr()
    first, second = (json.loads(line) for line in out.splitlines())
    assert first == second | {"max_drift": 0.2}
    assert err == "compare: drift is 0.1667, above max_drift 0.1\n"
    assert job.main([a, b, "--max-drift", "2"]) == 2
    assert job.main([a, f"{tmp_path}/none"]) == 1


def test_the_newest_night_of_an_output_is_compared_with_the_one_before(tmp_path):
    output = f"{tmp_path}/out"
    first, second, third = (note(night=n) for n in (2, 3, 4))
    put_rows(output, first, [row("a", blocks(0), first, confidence=0.2)])
    put_rows(output, second, [row("b", np.full((6, 8), 1, np.uint8), second, confidence=0.9)])
    put_rows(output, third, [row("c", np.full((6, 8), 2, np.uint8), third, confidence=0.5)])
    drift = compare(CompareConfig(output_a=Uri(output), output_b=Uri(output), metrics=Uri(f"{tmp_path}/drift.prom")))
    assert (drift.drift, drift.compared, drift.disagreement) == (1, 0, None)
    assert drift.confidence_drift == pytest.approx(0.4)
    text = (tmp_path / "drift.prom").read_text()
    assert f'deeplab_drift{{run_id="{third.run_id}"}} 1\n' in text
    (compared,) = (line for line in text.splitlines() if line.startswith("deeplab_compared_seconds{"))
    assert abs(float(compared.split()[1]) - time.time()) < 3600  # to the second, not to six digits
    assert "allowed" not in text
    assert text.endswith("\n")
    earlier = CompareConfig(output_a=Uri(output), output_b=Uri(output), run_a=first.run_id, run_b=second.run_id)
    assert compare(earlier).confidence_drift == pytest.approx(0.7)
    with pytest.raises(ConfigError, match="no masks of run never"):
        compare(CompareConfig(output_a=Uri(output), output_b=Uri(output), run_a="never"))


def test_a_night_that_took_two_runs_is_one_side(tmp_path, capsys):
    """A run that was lost after a few images, such as all of one class, and the one that did the others."""
    output = f"{tmp_path}/out"
    for night in (2, 3):
        lost, rest = note(night=night, run=1), note(night=night, run=2)
        put_rows(output, lost, [row(f"{night}-{n}", np.full((6, 8), 1, np.uint8), lost) for n in range(2)])
        failed = [failure(f"{night}-0", rest)] if night == 3 else []
        put_rows(output, rest, [row(f"{night}-{n}", blocks(n), rest) for n in range(2, 5)], failed)
        assert job.main([output, output, "--max-drift", "0.05"]) == 0, capsys.readouterr()
        put_rows(output, again := note(night=night, run=3), [row(f"{night}-0", np.full((6, 8), 1, np.uint8), again)])
    drift = compare(CompareConfig(output_a=Uri(output), output_b=Uri(output)))
    assert (drift.images_a, drift.images_b, drift.drift) == (5, 5, 0)
    again = note("other weights", night=3, run=4, classes=("x", "y", "z"))
    put_rows(output, again, [row(f"3-{n}", blocks(n), again) for n in range(4)])
    drift = compare(CompareConfig(output_a=Uri(output), output_b=Uri(output)))
    assert (drift.images_a, drift.images_b, drift.run_b) == (5, 4, again.run_id)


def test_what_cannot_be_written_hides_no_verdict(tmp_path, capsys):
    a, b = put_pair(tmp_path)
    (tmp_path / "file").write_text("")
    nowhere = ["--metrics", f"{tmp_path}/file/drift.prom", "--to", f"{tmp_path}/file/page.html"]
    assert job.main([a, b, "--max-drift", "0.1", *nowhere]) == 4
    assert job.main([a, b, "--max-drift", "0.2", *nowhere]) == 1
    assert job.main([a, b, *nowhere[2:]]) == 1
    out, err = capsys.readouterr()
    assert [(round(found["drift"], 4), found["page"]) for found in map(json.loads, out.splitlines())] == [
        (0.1667, None)
    ] * 3
    above, within, page = err.splitlines()
    assert above.startswith(f"compare: drift is 0.1667, above max_drift 0.1; cannot write {tmp_path}/file/drift.prom")
    assert within.startswith(f"compare: cannot write {tmp_path}/file/drift.prom")
    assert page.startswith(f"compare: cannot write {tmp_path}/file/page.html")


def test_the_page_tells_by_class_names_how_much_an_image_differs(tmp_path):
    """Also of the images that are none of those that differ most; and the same masks do not differ."""
    a = note(classes=("ground", "sky"), palette=((0, 0, 0), (9, 0, 0)), run=1)
    b = note(classes=("sky", "ground"), palette=((9, 0, 0), (0, 0, 0)), run=2)
    mask = np.zeros((8, 8), np.uint8)
    put_rows(f"{tmp_path}/a", a, [row(f"{n:03}", mask, a) for n in range(130)])
    other = np.ones((8, 8), np.uint8)
    other[0, 0] = 0
    put_rows(f"{tmp_path}/b", b, [row(f"{n:03}", other if n > 10 else 1 - mask, b) for n in range(130)])
    compare(CompareConfig(output_a=Uri(f"{tmp_path}/a"), output_b=Uri(f"{tmp_path}/b"), to=Uri(f"{tmp_path}/p.html")))
    found = re.search(r'id="data">(.*?)</script>', (tmp_path / "p.html").read_text(), re.DOTALL)
    assert found
    images = json.loads(found[1])["images"]
    assert len(images) > 100
    assert sum("changed" in image["reasons"] for image in images) == 100
    for image in images:
        expected = 1 / 64 if int(image["key"]) > 10 else 0
        assert image["disagreement"] == pytest.approx(expected)
        assert expected or "changed" not in image["reasons"]


def test_a_night_in_which_every_image_failed_is_not_passed_over(tmp_path):
    nights = [note(night=n) for n in (2, 3)]
    for info in nights:
        put_rows(f"{tmp_path}/out", info, [row(info.run_id, blocks(0), info)])
    for failing in (note(night=4), note(night=4, run=2)):
        put_rows(f"{tmp_path}/out", failing, [], [failure("x", failing), failure(failing.run_id, failing)])
    same, metrics = Uri(f"{tmp_path}/out"), Uri(f"{tmp_path}/drift.prom")
    with pytest.raises(ConfigError, match="the runs of 20260104 have written no masks, 3 images failed"):
        compare(CompareConfig(output_a=same, output_b=same, metrics=metrics))
    assert exported(tmp_path) == {"deeplab_compared_seconds"}


def exported(folder: Path) -> set[str]:
    """The names of the metrics that a comparison has left in `folder`."""
    return set(re.findall(r"^(\w+)\{", (folder / "drift.prom").read_text(), re.MULTILINE))


def test_a_first_night_has_nothing_to_be_compared_with_and_its_time_is_told_all_the_same(tmp_path, capsys):
    """Or the quiet nights after it, which export nothing else, would be taken for nights left out."""
    output, first = f"{tmp_path}/out", note()
    put_rows(output, first, [row(f"{n}", blocks(n), first) for n in range(3)], [failure("x", first)])
    flags = ["--max-drift", "0.05", "--metrics", f"{tmp_path}/drift.prom", "--to", f"{tmp_path}/page.html"]
    assert job.main([output, output, *flags]) == 0
    out, err = capsys.readouterr()
    figures = json.loads(out)
    assert (figures["drift"], figures["images_a"], figures["images_b"], figures["page"]) == (None, 0, 3, None)
    assert err == f"{output} has masks of 20260102 (UTC) alone, and none before to compare them with\n"
    assert exported(tmp_path) == {"deeplab_compared_seconds", "deeplab_drift_allowed"}
    assert not (tmp_path / "page.html").exists()
    assert job.main([f"{output}/masks", f"{output}/masks", *flags]) == 0


def test_a_generation_that_there_is_not_is_refused_as_a_run_is(tmp_path, capsys):
    a, b = put_pair(tmp_path)
    assert job.main([a, b, "--run-a", "none"]) == 2
    assert job.main([a, b, "--generation-b", "none"]) == 2
    assert report.main([a, "--generation", "none"]) == 2
    assert [line.partition(" at ")[0] for line in capsys.readouterr().err.splitlines()[1:]] == [
        "compare: no masks of generation none",
        "report: no masks of generation none",
    ]


def test_a_sample_of_the_smaller_side_finds_its_images_on_the_larger(tmp_path):
    a, b = note(run=1), note(run=2)
    put_rows(f"{tmp_path}/a", a, [row(f"{n}", blocks(n), a) for n in range(60)])
    put_rows(f"{tmp_path}/b", b, [row(f"{n}", blocks(n), b) for n in range(50, 60)])
    drift = compare(CompareConfig(output_a=Uri(f"{tmp_path}/a"), output_b=Uri(f"{tmp_path}/b"), images=10))
    assert (drift.compared, drift.disagreement) == (10, 0)
