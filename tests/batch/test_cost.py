"""Node-seconds by type, and what they cost."""

from pathlib import Path

import pytest

from pipeline.batch.monitoring.cost import NodeClock, costs, read_prices
from pipeline.errors import ConfigError


class Cluster:
    """Nodes that come and go, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 100.0
        self.types: list[str] = ["head"]

    def clock(self) -> NodeClock:
        return NodeClock(lambda: self.types, lambda: self.time)


def test_nodes_are_counted_for_the_time_they_were_there() -> None:
    cluster = Cluster()
    clock = cluster.clock()
    cluster.time, cluster.types = 130.0, ["head", "gpu", "cpu", "cpu"]
    clock.update()
    cluster.time, cluster.types = 150.0, ["head", "gpu"]
    clock.update()
    assert clock.seconds == {"head": 50.0, "gpu": 50.0, "cpu": 60.0}
    assert clock.most == {"head": 1, "gpu": 1, "cpu": 2}


def test_costs_are_hours_times_prices_as_far_as_there_are_prices(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("head: 0.1\ngpu: 3\n")
    prices = read_prices(str(tmp_path / "prices.yaml"))
    assert costs({"head": 7200.0, "gpu": 1800.0, "cpu": 1.0}, prices) == pytest.approx({"head": 0.2, "gpu": 1.5})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu: cheap\nhead: 1\n", "gpu: 'cheap'"),
        ("gpu: -1", "gpu: -1"),
        ("gpu: true", "gpu: True"),
        ("- 1", "no such line"),
        ("a: [", "is no YAML"),
    ],
)
def test_prices_that_are_none_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"prices: .*prices\.yaml") as error:
        read_prices(str(tmp_path / "prices.yaml"))
    assert message in str(error.value)
