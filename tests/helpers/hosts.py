"""Hosts on this machine: network namespaces on one switch, each with its own address, name, /tmp/ray and /dev/shm."""

import ipaddress
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "deeplab"
_NETWORKS = ipaddress.IPv4Network("198.18.0.0/15")  # set aside for tests of networks
_CAPABLE = "ip link add name a type veth peer name b && ip link add name c type bridge && mount -t tmpfs tmpfs /dev/shm"
_ENTER = """
hostname "$0" && mount --bind "$1" /etc/hosts && mount -t tmpfs tmpfs /tmp/ray && mount -t tmpfs tmpfs /dev/shm || exit
shift
exec "$@"
"""


@dataclass(frozen=True)
class Host:
    """A machine of its own, as far as a program can tell by files, names and the network.

    Attributes:
        name: as `hostname` says it, and as the other hosts know it.
        address: on the network.
        network: what the names of all namespaces of this network begin with.
        hosts_file: the /etc/hosts of all hosts.
    """

    name: str
    address: str
    network: str
    hosts_file: Path

    def command(self, *words: str) -> list[str]:
        """Return a command that becomes `words`, run here; /tmp/ray and /dev/shm are new for each command."""
        enter = ("ip", "netns", "exec", f"{self.network}-{self.name}", "unshare", "--uts", "sh", "-c", _ENTER)
        return [*enter, self.name, str(self.hosts_file), *words]

    def unplug(self) -> None:
        """Pull the cable out of the switch: nothing arrives or leaves any more, and no host is notified."""
        _ip("-n", f"{self.network}-switch", "link", "set", "dev", self.name, "down")


def unavailable() -> str:
    """Say why there can be no hosts here; empty where there can."""
    try:
        command = ["unshare", "--net", "--uts", "--mount", "sh", "-c", _CAPABLE]
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        return str(error)
    return (done.stderr.strip() or "`unshare` failed") if done.returncode else ""


@contextmanager
def network(folder: Path, *names: str) -> Iterator[list[Host]]:
    """Make hosts that reach each other and this process for the block; `folder` is for their /etc/hosts."""
    ours = f"{_PREFIX}-{os.getpid()}"
    switch = f"{ours}-switch"
    (here, *addresses), length = _addresses()
    hosts_file = folder / "hosts"
    hosts = [Host(name, address, ours, hosts_file) for name, address in zip(names, addresses, strict=False)]
    hosts_file.write_text("127.0.0.1 localhost\n" + "".join(f"{host.address} {host.name}\n" for host in hosts))
    Path("/tmp/ray").mkdir(exist_ok=True)  # to be mounted upon
    _remove_leftovers()
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "name", "switch", "type", "bridge")
        _ip("-n", switch, "link", "set", "dev", "switch", "up")
        _plug(switch, "here", ours, str(os.getpid()))
        _ip("address", "add", f"{here}/{length}", "dev", ours)
        _ip("link", "set", "dev", ours, "up")
        for host in hosts:
            inside = f"{ours}-{host.name}"
            _ip("netns", "add", inside)
            _plug(switch, host.name, "eth0", inside)
            _ip("-n", inside, "address", "add", f"{host.address}/{length}", "dev", "eth0")
            _ip("-n", inside, "link", "set", "dev", "eth0", "up")
            _ip("-n", inside, "link", "set", "dev", "lo", "up")
        yield hosts
    finally:
        _remove_leftovers()


def _addresses() -> tuple[list[str], int]:
    """Pick a small network, likely not that of another process's tests; returns its addresses and prefix length."""
    networks = list(_NETWORKS.subnets(new_prefix=29))
    chosen = networks[os.getpid() % len(networks)]
    return [str(address) for address in chosen.hosts()], chosen.prefixlen


def _plug(switch: str, port: str, device: str, namespace: str) -> None:
    """Lay a cable from a new port of the switch to a new device of a namespace, which a process in it names too."""
    _ip("-n", switch, "link", "add", "name", port, "type", "veth", "peer", "name", device, "netns", namespace)
    _ip("-n", switch, "link", "set", "dev", port, "master", "switch", "up")


def _remove_leftovers() -> None:
    """End what runs in the namespaces of this process and of those that have ended, and remove them."""
    for namespace in re.findall(rf"^{_PREFIX}-\d+-\S+", _ip("netns", "list"), re.MULTILINE):
        owner = int(namespace.split("-")[1])
        if owner == os.getpid() or not Path(f"/proc/{owner}").exists():
            for process in _ip("netns", "pids", namespace).split():
                with suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            _ip("netns", "delete", namespace)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr}")
    return done.stdout
