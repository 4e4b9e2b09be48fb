"""A training whose output cannot be written, or that two share: nothing is lost, and the same command goes on."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import models, storage
from tests.helpers.breaking import ROOT, Stage, stage
from tests.helpers.labelled import CLASSES, put_camvid
from tests.helpers.servers import new_bucket
from tests.helpers.small_disk import enlarge, small_disk

pytestmark = pytest.mark.long

CHECKPOINT_MIB = 30  # of the light network
FLAGS = (
    *("--data-format=camvid", f"--classes={json.dumps(CLASSES)}", "--init=efficientnet-lite0-imagenet"),
    *("--recipe.iterations=8", "--recipe.checkpoint_every=2", "--recipe.batch=4", "--recipe.crop=49"),
    *("--recipe.base_lr=0.01", "--recipe.no-freeze-bn", "--name=streets"),
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("training")) as built:
        yield built


@pytest.fixture(scope="module")
def data(parts: Stage) -> str:
    bucket = new_bucket()
    for split, count in (("train", 6), ("val", 2)):
        put_camvid(bucket, split, count)
    return bucket


class Training:
    """jobs/train.py on the cluster."""

    def __init__(self, parts: Stage, data: str, output: str, *flags: str) -> None:
        """Start a driver."""
        command = [sys.executable, "jobs/train.py", f"--data={data}", f"--output={output}", *FLAGS, *flags]
        environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": parts.cluster.address}
        self.driver = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def end(self) -> tuple[int, dict[str, Any], str]:
        """Exit code, summary (of one that went well) and messages."""
        out, err = self.driver.communicate(timeout=600)
        code = self.driver.returncode
        assert "Traceback" not in err
        return code, json.loads(out.splitlines()[-1]) if code == 0 else {}, err


def steps(folder: str) -> list[int]:
    """The checkpoints that are noted."""
    entries = storage.list_files(f"{folder}/checkpoints")
    return sorted(int(entry.key.removesuffix(".json")) for entry in entries if entry.key.endswith(".json"))


def ends_well(training: Training, begun_at: int) -> str:
    """It goes on from a step, and its model is whole; returns its messages."""
    code, summary, messages = training.end()
    assert code == 0, messages
    assert f"continuing streets at step {begun_at}\n" in messages
    assert models.load(summary["weights"]).classes == CLASSES
    return messages


def test_of_two_that_are_started_at_once_one_trains(parts: Stage, data: str) -> None:
    output = new_bucket()
    ends = sorted((Training(parts, data, output) for _ in range(2)), key=id)
    (code, summary, messages), (other, _, refused) = sorted((one.end() for one in ends), key=lambda end: end[0])
    assert (code, other) == (0, 1), messages + refused
    line = refused.splitlines()[-1]
    assert re.fullmatch(
        rf"train: run \S+ \(process \d+ on \S+\) has the lock of {output}/streets; "
        "wait until it ends, then run the same command",
        line,
    )
    assert "waiting for" not in refused  # no worker was started
    assert steps(f"{output}/streets")[-2:] == [6, 8]
    assert models.load(summary["weights"]).classes == CLASSES
    assert not storage.exists(f"{output}/streets/_lock.json")


def test_before_a_machine_goes_its_work_is_saved(parts: Stage, data: str) -> None:
    """Between two checkpoints that are far apart; another machine takes its place."""
    output = new_bucket()
    training = Training(parts, data, output, "--workers=2", "--recipe.iterations=300", "--recipe.checkpoint_every=300")
    while len(parts.cluster.workers("RayTrainWorker")) < 2:
        assert training.driver.poll() is None, training.end()
        time.sleep(0.5)
    time.sleep(20)
    parts.cluster.add_node()
    parts.cluster.drain_node(40)
    code, summary, messages = training.end()
    assert code == 0, messages
    told = re.search(r"a machine of the run goes soon: a checkpoint is put at step (\d+)$", messages, re.MULTILINE)
    assert told is not None, messages
    assert int(told[1]) % 300 != 0
    assert f"continuing streets at step {told[1]}\n" in messages
    assert summary["best_step"] == 300


def test_a_full_disk_ends_it_at_once_and_the_same_command_goes_on(parts: Stage, data: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, size=f"{CHECKPOINT_MIB * 5 // 2}m"):
        code, _, messages = Training(parts, data, str(disk)).end()
        assert code == 1
        assert re.search(r"^train: cannot write .*/00000006.pt: no space is left there", messages.splitlines()[-1])
        assert "continuing" not in messages  # it was not tried again
        assert steps(f"{disk}/streets") == [2, 4]
        enlarge(disk)
        damaged = disk / "streets" / "checkpoints" / "00000004.pt"
        damaged.write_bytes(damaged.read_bytes()[:-1000])
        messages = ends_well(Training(parts, data, str(disk)), begun_at=2)
        assert "the checkpoint of step 4 is damaged, and an older one is looked for: " in messages


def test_a_storage_that_refuses_what_is_written_ends_it_and_the_same_command_goes_on(parts: Stage, data: str) -> None:
    output = new_bucket()
    parts.proxy.requests.clear()
    training = Training(parts, data, output, "--storage-timeout=3")
    while not any(place.endswith("/00000002.json") for place in parts.proxy.puts(f"{output}/streets/checkpoints")):
        assert training.driver.poll() is None, training.end()
    parts.proxy.fault = "refuse-writes"
    code, _, messages = training.end()
    parts.proxy.fault = "none"
    assert code == 1
    assert messages.splitlines()[-1].startswith("train: cannot write ")
    assert "continuing" not in messages
    ends_well(Training(parts, data, output), begun_at=steps(f"{output}/streets")[-1])
