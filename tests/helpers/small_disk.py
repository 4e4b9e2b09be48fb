"""A file system that is soon full: a small tmpfs, which takes root to mount."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a file system of a size such as 4m at `folder` for the block; without root, skip the test."""
    folder.mkdir()
    if (done := _mount(folder, f"size={size}")).returncode:
        pytest.skip(f"mounting a file system needs root: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def enlarge(folder: Path) -> None:
    """Give the file system at `folder` a GiB."""
    done = _mount(folder, "remount,size=1g")
    assert done.returncode == 0, done.stderr


def _mount(folder: Path, options: str) -> "subprocess.CompletedProcess[str]":
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, text=True)
