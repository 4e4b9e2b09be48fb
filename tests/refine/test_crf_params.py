import dataclasses

import pytest

from pipeline.errors import ConfigError
from pipeline.refine.crf import CRFParams


def test_the_defaults_are_the_released_values_for_resnet_101():
    assert dataclasses.asdict(CRFParams()) == {
        "iterations": 10,
        "gaussian_weight": 3,
        "gaussian_xy": 1,
        "bilateral_weight": 4,
        "bilateral_xy": 67,
        "bilateral_rgb": 3,
        "normalization": "symmetric",
        "label_costs": (),
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", -1),
        ("iterations", 10**6),
        ("iterations", 2.5),
        ("gaussian_weight", -1),
        ("gaussian_weight", float("nan")),
        ("bilateral_weight", float("inf")),
        ("gaussian_xy", 0),
        ("bilateral_xy", -3),
        ("bilateral_rgb", 0),
        ("bilateral_rgb", 0.05),
        ("bilateral_rgb", 1e-8),
        ("bilateral_xy", 1e30),
        ("normalization", "before"),
        ("label_costs", (1, -0.5)),
        ("label_costs", (1, 11)),
        ("label_costs", (float("nan"),)),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        CRFParams(**{name: value})


@pytest.mark.parametrize(
    "edge", [{"iterations": 0}, {"gaussian_weight": 0, "bilateral_weight": 0}, {"bilateral_rgb": 0.1}]
)
def test_the_edges_are_allowed(edge):
    CRFParams(**edge)


def test_the_fingerprint_names_costs_that_change_something_alone():
    assert CRFParams(label_costs=(1, 1)).fingerprint() == CRFParams().fingerprint()
    assert "label_costs" not in CRFParams().fingerprint()["crf"]
    assert CRFParams(label_costs=(1, 0)).fingerprint()["crf"]["label_costs"] == [1, 0]
