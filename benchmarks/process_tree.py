"""Processes and the CPU time they took, as Linux's /proc tells them."""

import os
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import NamedTuple

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Ticks(NamedTuple):
    """Hold a process's parent, and the ticks of a core that it took so far."""

    parent: int
    ticks: int


def process_ticks() -> dict[int, Ticks]:
    """Read every process of the machine."""
    found = {}
    for path in glob("/proc/[0-9]*/stat"):
        try:
            text = Path(path).read_text()
        except OSError:  # it has just ended
            continue
        fields = text.rpartition(")")[2].split()  # the name before it may hold spaces
        found[int(text.split(maxsplit=1)[0])] = Ticks(int(fields[1]), int(fields[11]) + int(fields[12]))
    return found


def below(root: int, processes: Mapping[int, Ticks]) -> dict[int, int]:
    """Give the ticks of `root` and of every process below it."""
    tree = {root}
    while more := {pid for pid, process in processes.items() if process.parent in tree} - tree:
        tree |= more
    return {pid: processes[pid].ticks for pid in tree if pid in processes}


def command_line(pid: int) -> str:
    """Give a process's command line, or the title that it has given itself; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""
