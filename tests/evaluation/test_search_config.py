"""The ranges of a search, and what is refused."""

import pytest

from pipeline.errors import ConfigError
from pipeline.evaluation.search_config import SearchConfig
from pipeline.refine.crf import CRFParams
from pipeline.storage import Uri


def config(**changes):
    return SearchConfig(data=Uri("d"), data_format="camvid", model=Uri("m"), output=Uri("o"), **changes)


def test_the_default_grid_is_the_papers():
    assert config().axes() == [[3, 4, 5, 6], [30, 40, 50, 60, 70, 80, 90, 100], [3, 4, 5, 6]]
    assert config().params((4, 60, 5)) == CRFParams(
        gaussian_weight=3, gaussian_xy=3, bilateral_weight=4, bilateral_xy=60, bilateral_rgb=5
    )


def test_steps_end_at_the_highest_value():
    axes = config(bilateral_weight=(0.1, 0.4, 0.1), bilateral_xy=(10, 15, 2), bilateral_rgb=(4, 4, 1)).axes()
    assert [len(axis) for axis in axes] == [4, 4, 1]
    assert axes[1] == [10, 12, 14, 15]
    assert config(bilateral_xy=(67, 80, 20)).axes()[1] == [67, 80]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bilateral_xy": (9, 3, 1)}, r"bilateral_xy is \[9, 3, 1\]"),
        ({"bilateral_weight": (3, 6, 0)}, r"bilateral_weight is \[3, 6, 0\]"),
        ({"bilateral_rgb": (0, 6, 1)}, "bilateral_rgb must be in"),
        ({"gaussian_xy": 0}, "gaussian_xy must be in"),
        ({"images": 0}, "images is 0"),
        ({"bilateral_xy": (1, float("inf"), 1)}, "bilateral_xy is .*; give a finite number"),
        ({"bilateral_xy": (1, 2, 1e-9)}, r"which is 1e\+09 steps; give a step that makes at most 100"),
    ],
)
def test_what_cannot_be_searched_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)
