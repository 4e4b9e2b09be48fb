"""What an evaluation says: JSON without NaN, a table that agrees with it."""

import json

import numpy as np
import pytest

from pipeline.evaluation.mask_counts import Counting, MaskCounts
from pipeline.evaluation.result import Evaluation
from pipeline.evaluation.scorer import NETWORK, REFINED

TRUTH = np.array([[0, 0, 1, 1], [0, 255, 1, 1]], np.uint8)
WRONG = np.array([[0, 1, 1, 1], [0, 1, 1, 1]], np.uint8)


def counts(prediction):
    counted = MaskCounts(Counting(classes=3, band="void"))
    counted.update("a", TRUTH, prediction)
    return counted


def evaluation(**by_kind):
    return Evaluation(classes=("sky", "road", "tree"), counts=by_kind, band="void", about={"split": "val"})


def test_scores_are_in_percent_and_what_occurs_nowhere_is_null():
    found = json.loads(evaluation(**{NETWORK: counts(WRONG), REFINED: counts(np.minimum(TRUTH, 1))}).to_json())
    assert found["iou"] == {"sky": 66.67, "road": 80.0, "tree": None}
    assert found["mean_iou"] == 73.33
    assert found["pixel_accuracy"] == 85.71
    assert found["mean_iou_refined"] == found["pixel_accuracy_refined"] == 100
    assert (found["split"], found["trimap_band"], len(found["trimap"])) == ("val", "void", 40)


def test_what_was_not_scored_is_null():
    found = json.loads(evaluation(**{REFINED: counts(WRONG)}).to_json())
    assert found["mean_iou"] is found["iou"] is found["trimap"] is None
    assert found["mean_iou_refined"] == 73.33


def test_the_table_has_a_row_for_each_class_and_score():
    lines = evaluation(**{NETWORK: counts(WRONG), REFINED: counts(np.minimum(TRUTH, 1))}).to_markdown().splitlines()
    assert lines[0] == "| IoU, % | network | refined |"
    assert lines[2:7] == [
        "| sky | 66.67 | 100.00 |",
        "| road | 80.00 | 100.00 |",
        "| tree |  |  |",
        "| **mean IoU** | 73.33 | 100.00 |",
        "| pixel accuracy | 85.71 | 100.00 |",
    ]
    assert lines[7].startswith("| mean IoU within 1 px of void |")
    assert lines[-1].startswith("| border F-measure |")


def test_pictures_that_refinement_made_worse_are_counted_and_the_worst_come_first():
    better, worse = (MaskCounts(Counting(classes=3, band="void")) for _ in range(2))
    for key, before, after in (("same", WRONG, WRONG), ("lost", TRUTH % 2, WRONG), ("more", TRUTH % 2, 1 - TRUTH % 2)):
        better.update(key, TRUTH, before)
        worse.update(key, TRUTH, after)
    found = json.loads(evaluation(**{NETWORK: better, REFINED: worse}).to_json())["worse"]
    assert found["iou"] == {"pictures": 2, "most": [["more", 100.0, 0.0], ["lost", 100.0, 73.33]]}
    assert found["border_f"]["pictures"] == 0  # here every border is within a pixel of where it belongs
    assert json.loads(evaluation(**{NETWORK: better}).to_json())["worse"] is None


def test_counts_add_up_as_rows():
    whole, first = (MaskCounts(Counting(classes=3, band="borders")) for _ in range(2))
    for key, prediction in (("a", WRONG), ("b", TRUTH % 2)):
        part = MaskCounts(Counting(classes=3, band="borders"))
        part.failed.append("a: broken")
        for one in (whole, part):
            one.update(key, TRUTH, prediction)
        first.add_row(part.to_row(NETWORK))
    np.testing.assert_array_equal(first.score.matrix, whole.score.matrix)
    np.testing.assert_array_equal(first.trimap.counts, whole.trimap.counts)
    assert first.pictures == whole.pictures
    assert list(first.pictures) == ["a", "b"]
    np.testing.assert_array_equal(first.border, whole.border)
    assert first.failed == ["a: broken", "a: broken"]


@pytest.mark.parametrize("kinds", [(NETWORK,), (NETWORK, REFINED)])
def test_titles_name_the_kinds(kinds):
    found = evaluation(**{kind: counts(WRONG) for kind in kinds})
    assert list(found.iou()) == list(found.trimap()) == ["network", "refined"][: len(kinds)]


def test_names_with_signs_of_tables_and_formulas_stay_names():
    found = Evaluation(classes=("$$", "a|b", "\\"), counts={NETWORK: counts(WRONG)}, band="void", about={})
    assert json.loads(found.to_json())["iou"] == {"$$": 66.67, "a|b": 80.0, "\\": None}
    assert found.to_markdown().splitlines()[2:5] == [r"| $$ | 66.67 |", r"| a\|b | 80.00 |", r"| \\ |  |"]
