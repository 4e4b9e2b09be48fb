"""What a search says is what it writes, also where several parameters are equally good."""

import numpy as np

from pipeline.evaluation.crf_search import best_parameters
from pipeline.evaluation.search_config import SearchConfig
from pipeline.storage import Uri


class Counted:
    """Logits of one picture, and what is counted after each refiner: the same after all, or better at one."""

    classes = 2

    def __init__(self, better=None):
        self.better = better

    def __len__(self):
        return 1

    def matrices(self, refiners):
        for index, refiner in enumerate(refiners):
            params = getattr(refiner, "params", None)
            hits = 9 if params and (params.bilateral_weight, params.bilateral_xy) == self.better else 5
            yield index, np.array([[hits, 1], [1, hits]])


class Costed(Counted):
    """The same, but better where label 1 costs little, and better still where label 0 costs more."""

    def matrices(self, refiners):
        for index, refiner in enumerate(refiners):
            params = getattr(refiner, "params", None)
            hits = 5
            if params and params.label_costs:
                hits += 2 * (params.label_costs[1] < 1) + (params.label_costs[0] == 1.5)
            yield index, np.array([[hits, 1], [1, hits]])


def searched(logits, label_costs=()):
    return best_parameters(
        SearchConfig(
            data=Uri("d"),
            data_format="camvid",
            model=Uri("m"),
            output=Uri("o"),
            bilateral_weight=(3, 6, 1),
            bilateral_xy=(30, 60, 10),
            bilateral_rgb=(3, 3, 1),
            label_costs=label_costs,
        ),
        logits,
    )


def test_of_equals_the_point_that_is_said_is_the_one_that_is_written(capsys):
    result = searched(Counted())
    at = (
        f"bilateral_weight {result.best.bilateral_weight:g}, bilateral_xy {result.best.bilateral_xy:g}, bilateral_rgb 3"
    )
    assert at == "bilateral_weight 3, bilateral_xy 30, bilateral_rgb 3"  # the first that was tried
    lines = capsys.readouterr().err.splitlines()
    assert f"the best of them: mean IoU 71.43 at {at}" in lines
    assert lines[-1] == f"the best of all {len(result.tried)}: mean IoU 71.43 at {at}"


def test_what_is_said_last_is_the_best_of_all_rounds(capsys):
    result = searched(Counted(better=(5, 50)))
    assert (result.best.bilateral_weight, result.best.bilateral_xy) == (5, 50)
    *_, round_, last = [line for line in capsys.readouterr().err.splitlines() if line.startswith("the best")]
    assert round_.startswith("the best of them: mean IoU 71.43 at ")  # of the last round alone
    assert last.endswith("mean IoU 81.82 at bilateral_weight 5, bilateral_xy 50, bilateral_rgb 3")


def test_costs_are_searched_label_by_label_at_the_best_of_the_rest(capsys):
    result = searched(Costed(), label_costs=(0, 0.5, 1, 1.5))
    assert result.best.label_costs == (1.5, 0)  # of equals the first
    assert (result.best.bilateral_weight, result.best.bilateral_xy) == (3, 30)
    assert result.mean_iou_refined == 8 / 10
    first, last = (line for line in capsys.readouterr().err.splitlines() if line.startswith("label "))
    assert first == "label 0 at a cost of 1.5: mean IoU 75.00"
    assert last == "label 1 at a cost of 0: mean IoU 80.00"


def test_without_a_gain_labels_have_no_costs_of_their_own():
    result = searched(Counted(), label_costs=(0, 0.5, 1, 1.5))
    assert (result.best.label_costs, result.mean_iou_refined) == ((), max(result.tried.values()))
