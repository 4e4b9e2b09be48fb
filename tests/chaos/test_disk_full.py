"""A disk that is full: the one that Ray spills to, with a machine's memory for objects, and the one of the output."""

from pathlib import Path

import pytest

from tests.helpers.breaking import Job, stage
from tests.helpers.small_disk import enlarge, small_disk

pytestmark = pytest.mark.long

COUNT = 40
PICTURE_BYTES = 12_000_000  # three fetches at once, of up to 64 MiB each, are more than memory and disk
STORE_BYTES = 80 * 2**20


def test_a_full_disk_ends_the_run_with_a_message_and_the_same_command_continues_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    flags = (f"--object-store-memory={STORE_BYTES}", f"--object-spilling-directory={disk}")
    with small_disk(disk, size="12m"), stage(tmp_path, *flags) as parts:
        job = Job(parts, COUNT, padding=PICTURE_BYTES)
        job.start()
        code, _, messages = job.end()
        assert code == 1, messages
        assert messages.splitlines()[-1].startswith("segment: a machine's memory for objects is full, and so is the ")
        enlarge(disk)
        job.start()
        code, _, messages = job.end()
        assert code == 0, messages
        assert job.account().failed == 0


def test_an_output_on_a_full_disk_ends_the_run_with_a_message_and_the_same_command_continues_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, size="4m"), stage(tmp_path) as parts:
        job = Job(parts, COUNT, output=f"{disk}/out")
        job.start()
        assert job.wait(lambda _: list(disk.glob("out/masks/*.parquet"))), job.end()
        others = disk / "others"
        with pytest.raises(OSError, match="No space left"), others.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        code, _, messages = job.end()
        assert code == 1, messages
        last = messages.splitlines()[-1]
        assert last.startswith(f"segment: cannot write {disk}/out/")
        assert ": no space is left there" in last
        others.unlink()
        job.start()
        code, summary, messages = job.end()
        assert code == 0, messages
        assert 0 < summary["skipped"] < COUNT
        assert job.account().failed == 0
