"""A Ray cluster of several machines, as far as Ray can tell: each node has processes of its own, ended by their ids."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.gcs_pb2 import GcsNodeInfo  # type: ignore[attr-defined]

from tests.helpers.hosts import Host
from tests.helpers.servers import free_port

_STORE_BYTES = 200 * 2**20
_START_SECONDS = 300
AGENT_PORTS = (  # a raylet started without them ends itself where the agents take longer than 15 s to start
    *("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port", "metrics-export-port"),
)
_LABEL = "started-as"
_AT_WORK = re.compile(r"ray::(?!IDLE|\w*Agent)")


@dataclass(frozen=True)
class Node:
    """`ray start`, which is the parent of all that runs on the node, its log, and the label that names the node."""

    process: "subprocess.Popen[bytes]"
    log: Path
    label: str


class RayCluster:
    """A head and other nodes, each of `cpus` CPUs."""

    def __init__(
        self,
        cpus: int,
        environment: dict[str, str],
        folder: Path,
        hosts: Sequence[Host] = (),
        flags: Sequence[str] = (),
        port: int = 0,
    ) -> None:
        """Start the head; the log of each node is a file of `folder`.

        Args:
            flags: more of `ray start`, for every node.
            hosts: where the nodes run, one each; the head, the first, has a dashboard then and no CPU for work. Without
                hosts all run on this one.
            port: of the head; a free one without.
        """
        self._folder, self._started = folder, 0
        self._cpus, self._environment, self._hosts, self._flags = cpus, environment, hosts, flags
        dashboard = free_port()
        ports = (
            f"--port={port or free_port()}",
            f"--ray-client-server-port={free_port()}",
            f"--dashboard-port={dashboard}",
        )
        alone = ("--dashboard-host=0.0.0.0", "--num-cpus=0") if hosts else ("--include-dashboard=false",)
        self._head = self._start("--head", *alone, *ports)
        self.dashboard = f"http://{hosts[0].address}:{dashboard}" if hosts else ""
        self._others: list[Node] = []

    @property
    def address(self) -> str:
        """Return the value for RAY_ADDRESS, from the head's log."""
        match = re.search(r"ray start --address='(\S+)'", self._head.log.read_text(errors="replace"))
        assert match is not None
        return match[1]

    def add_node(self) -> None:
        """Start another node once all before it have joined; it joins when it is ready."""
        self.wait_for_nodes()  # two that start at once take the same name for their sockets, and one never joins
        self._others.append(self._start(f"--address={self.address}"))

    def lose_node(self) -> None:
        """Kill all processes of the node that was added first, at once, as when a machine is switched off."""
        _switch_off(self._others.pop(0))

    def drain_node(self, seconds: int) -> None:
        """Tell Ray that the node that was added first goes in so many seconds, as a spot machine's notice; it does."""
        node = self._others.pop(0)
        nodes = GcsClient(self.address).get_all_node_info()
        (drained,) = [name.hex() for name, known in nodes.items() if known.labels.get(_LABEL) == node.label]
        command = [str(Path(sys.executable).parent / "ray"), "drain-node", f"--address={self.address}"]
        command += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", f"--node-id={drained}"]
        environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
        subprocess.run([*command, f"--deadline-remaining-seconds={seconds}"], env=environment, check=True)
        time.sleep(seconds)
        _switch_off(node)

    def wait_for_nodes(self) -> None:
        """Wait until every node has joined."""
        deadline = time.monotonic() + _START_SECONDS
        for node in [self._head, *self._others]:
            while "Ray runtime started" not in (text := node.log.read_text(errors="replace")):
                if node.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"a Ray node did not start: {text[-2000:]}")
                time.sleep(0.3)

    def machines(self) -> int:
        """Count the nodes that are alive, the head included, as Ray sees them."""
        alive = GcsNodeInfo.GcsNodeState.Value("ALIVE")
        return sum(node.state == alive for node in GcsClient(self.address).get_all_node_info().values())

    def workers(self, title: str = "") -> dict[int, str]:
        """Find processes at work whose titles, such as `ray::MapWorker(MapBatches(RefineStage))`, contain `title`."""
        processes = (process for node in [self._head, *self._others] for process in below(node.process.pid))
        titles = ((process, _title(process)) for process in processes)
        return {process: name for process, name in titles if _AT_WORK.match(name) and title in name}

    def stop(self) -> None:
        """End all nodes, the head last."""
        for node in [*self._others, self._head]:
            _switch_off(node)

    def _start(self, *flags: str) -> Node:
        self._started += 1
        log = self._folder / f"node-{self._started}.log"
        command = [str(Path(sys.executable).parent / "ray"), "start", "--block", f"--num-cpus={self._cpus}"]
        command += [f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats", "--include-log-monitor=false"]
        command += [*self._flags, *flags, *(f"--{name}={free_port()}" for name in AGENT_PORTS)]
        command += ["--labels", f"{_LABEL}={log.stem}"]
        if self._hosts:
            host = self._hosts[self._started - 1]
            command = host.command(*command, f"--node-ip-address={host.address}")
        slow_start = {"RAY_raylet_start_wait_time_s": f"{_START_SECONDS}"}  # a busy machine starts it slowly
        environment = os.environ | self._environment | {"RAY_AUTH_MODE": "disabled"} | slow_start
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        return Node(process, log, log.stem)


def _switch_off(node: Node) -> None:
    for process in [node.process.pid, *below(node.process.pid)]:
        kill(process)
    node.process.wait(30)


def below(process: int) -> list[int]:
    """List the processes that `process` has started, and those that they have."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has just ended
                continue
    descendants, last = [], {process}
    while last:
        last = {child for child, parent in parents.items() if parent in last}
        descendants += sorted(last)
    return descendants


def kill(process: int) -> None:
    """End a process by SIGKILL, if it has not ended by itself."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _title(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().rstrip("\0")
    except OSError:
        return ""


@contextmanager
def ray_cluster(
    nodes: int,
    cpus: int,
    environment: dict[str, str],
    folder: Path,
    hosts: Sequence[Host] = (),
    flags: Sequence[str] = (),
    port: int = 0,
) -> Iterator[RayCluster]:
    """Run a cluster for the block; its workers have the variables of `environment`."""
    cluster = RayCluster(cpus, environment, folder, hosts, flags, port)
    try:
        cluster.wait_for_nodes()
        for _ in range(nodes - 1):
            cluster.add_node()
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.stop()
