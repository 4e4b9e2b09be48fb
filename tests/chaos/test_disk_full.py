"""A machine whose memory for objects is full, and the disk that Ray spills them to as well."""

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
    with small_disk(disk, mebibytes=12), stage(tmp_path, *flags) as parts:
        job = Job(parts, COUNT, padding=PICTURE_BYTES)
        job.start()
        code, _, messages = job.end()
        assert code == 1, messages
        assert messages.splitlines()[-1].startswith(
            "segment_bucket: a machine's memory for objects is full, and so is the "
        )
        enlarge(disk)
        job.start()
        code, _, messages = job.end()
        assert code == 0, messages
        assert job.account().failed == 0
