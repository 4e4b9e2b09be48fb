"""A table of what breaks, when, and what must hold. Afterwards every picture has its row, and none has two."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.helpers.breaking import Job, Stage, committed, fetching, listed, noted, stage, staged
from tests.helpers.ray_cluster import kill
from tests.helpers.s3_proxy import Fault

COUNT = 24

Moment = Callable[[Job], object]
Breakage = Callable[[Job], None]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What `breaks` at which moment, and how the run must end.

    Attributes:
        code: of the run; one that ends with 1 is followed by another, which must end with 0.
        message: of the run.
        flags: of the run.
        in_ci: whether it is part of `make slow`, and not of `make chaos` alone.
    """

    name: str
    when: Moment
    breaks: Breakage
    code: int = 0
    message: str = ""
    flags: tuple[str, ...] = ()
    in_ci: bool = False


def worker(title: str) -> Breakage:
    """A worker process is killed, once there is one."""

    def act(job: Job) -> None:
        assert job.wait(lambda job: job.parts.cluster.workers(title))
        kill(min(job.parts.cluster.workers(title)))

    return act


def storage(fault: Fault, seconds: float) -> Breakage:
    """The storage fails for so many seconds."""

    def act(job: Job) -> None:
        job.parts.proxy.fault = fault
        time.sleep(seconds)
        job.parts.proxy.fault = "none"

    return act


def server(seconds: float) -> Breakage:
    """The S3 server dies, and is started anew after so many seconds."""

    def act(job: Job) -> None:
        job.parts.server.kill()
        time.sleep(seconds)
        job.parts.server.start()

    return act


def node(job: Job) -> None:
    """A machine is lost with all that it held, and another one comes."""
    job.parts.cluster.lose_node()
    job.parts.cluster.add_node()


def outage(job: Job) -> None:
    """The storage fails until the run has ended."""
    job.parts.proxy.fault = "refuse"
    job.driver.wait(300)
    job.parts.proxy.fault = "none"


def driver(job: Job) -> None:
    """The driver is killed."""
    job.driver.kill()


def notice(job: Job) -> None:
    """The driver is asked to end, as by a spot instance's last notice."""
    job.driver.send_signal(signal.SIGTERM)


KILLED = -signal.SIGKILL

SCENARIOS = (
    Scenario(name="SegmentStage", when=fetching, breaks=worker("SegmentStage"), in_ci=True),
    Scenario(name="RefineStage", when=fetching, breaks=worker("RefineStage")),
    Scenario(name="tracker", when=fetching, breaks=worker("LocalTracker")),
    Scenario(name="node", when=fetching, breaks=node, in_ci=True),
    Scenario(name="driver-noted", when=noted, breaks=driver, code=KILLED),
    Scenario(name="driver-listed", when=listed, breaks=driver, code=KILLED),
    Scenario(name="driver-fetching", when=fetching, breaks=driver, code=KILLED),
    Scenario(name="driver-committed", when=committed, breaks=driver, code=KILLED, in_ci=True),
    Scenario(name="driver-staged", when=staged, breaks=driver, code=KILLED, flags=("--compact",)),
    Scenario(name="notice", when=committed, breaks=notice, code=1, message="interrupted"),
    Scenario(name="refused", when=fetching, breaks=storage("refuse", 8)),
    Scenario(name="refused-listed", when=listed, breaks=storage("refuse", 8)),
    Scenario(name="refused-committing", when=committed, breaks=storage("refuse", 8)),
    Scenario(name="dropped-committing", when=committed, breaks=storage("drop", 8)),
    Scenario(name="dropped", when=fetching, breaks=storage("drop", 8)),
    Scenario(name="slow", when=fetching, breaks=storage("slow", 20)),
    Scenario(name="server", when=fetching, breaks=server(10)),
    Scenario(name="server-60s", when=fetching, breaks=server(60)),
    Scenario(
        name="outage",
        when=fetching,
        breaks=outage,
        flags=("--storage-timeout=3",),
        code=1,
        message="segment: cannot ",
    ),
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("chaos")) as built:
        yield built


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(s, id=s.name, marks=pytest.mark.slow if s.in_ci else pytest.mark.long) for s in SCENARIOS],
)
def test_nothing_is_lost_and_nothing_twice(parts: Stage, scenario: Scenario) -> None:
    job = Job(parts, COUNT)
    job.start(*scenario.flags)
    assert job.wait(scenario.when), job.end()
    scenario.breaks(job)
    code, summary, messages = job.end()
    assert code == scenario.code, messages
    assert scenario.message in messages
    assert "Traceback" not in messages
    if code != 0:
        job.start()
        code, summary, messages = job.end()
        assert code == 0, messages
    assert summary["listed"] == COUNT
    assert job.account().failed == 0
