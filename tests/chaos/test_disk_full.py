"""A machine whose memory for objects is full, and the disk that Ray spills them to as well."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.breaking import Job, stage

pytestmark = pytest.mark.long

COUNT = 40
PICTURE_BYTES = 12_000_000  # three fetches at once, of up to 64 MiB each, are more than memory and disk
STORE_BYTES = 80 * 2**20


def mount(folder: Path, options: str) -> "subprocess.CompletedProcess[str]":
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, text=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of its own, of 12 MiB, at `folder`."""
    folder.mkdir()
    if (done := mount(folder, "size=12m")).returncode:
        pytest.skip(f"mounting a file system needs root: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_ends_the_run_with_a_message_and_the_same_command_continues_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    flags = (f"--object-store-memory={STORE_BYTES}", f"--object-spilling-directory={disk}")
    with small_disk(disk), stage(tmp_path, *flags) as parts:
        job = Job(parts, COUNT, padding=PICTURE_BYTES)
        job.start()
        code, _, messages = job.end()
        assert code == 1, messages
        assert messages.splitlines()[-1].startswith(
            "segment_bucket: a machine's memory for objects is full, and so is the "
        )
        assert mount(disk, "remount,size=1g").returncode == 0
        job.start()
        code, _, messages = job.end()
        assert code == 0, messages
        assert job.account().failed == 0
