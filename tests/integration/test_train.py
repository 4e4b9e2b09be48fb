"""jobs/train.py on a real Ray instance, its data and its checkpoints on a real S3 server."""

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from pipeline import models, storage
from pipeline.commands.train import command as train
from pipeline.training.distributed import trainer
from tests.helpers.labelled import CLASSES, palette_png, put_camvid, put_webdataset
from tests.helpers.segmenting import summary
from tests.helpers.servers import new_bucket

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("cluster")

LIGHT = ("--model=light", "--init=efficientnet-lite0-imagenet")
SMALL = (
    f"--classes={json.dumps(CLASSES)}",
    "--recipe.iterations=6",
    "--recipe.checkpoint_every=2",
    "--recipe.batch=4",
    "--recipe.crop=49",
    "--recipe.base_lr=0.01",
    "--recipe.no-freeze-bn",
)


def job(data: str, output: str, *flags: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, summary and messages of the job."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = train.main([f"--data={data}", f"--output={output}", *SMALL, *flags])
    return code, json.loads(out.getvalue().splitlines()[-1]) if code == 0 else {}, err.getvalue()


@dataclass(frozen=True)
class Run:
    """A finished run: where it is, its summary, its messages, and the same command again, with more flags."""

    folder: str
    summary: dict[str, Any]
    messages: str
    again: Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture(scope="module")
def finished(cluster: None) -> Run:
    bucket = new_bucket()
    put_webdataset(f"{bucket}/data", "train", 6)
    put_webdataset(f"{bucket}/data", "val", 3)
    flags = (*LIGHT, "--data_format=webdataset", "--workers=2", "--name=streets", "--licence=CC0-1.0")

    def again(*more: str) -> tuple[int, dict[str, Any], str]:
        return job(f"{bucket}/data", f"{bucket}/out", *flags, *more)

    code, summary, messages = again()
    assert code == 0, messages
    return Run(f"{bucket}/out/streets", summary, messages, again)


@pytest.mark.slow
def test_the_best_checkpoint_becomes_a_model(finished: Run) -> None:
    summary = finished.summary
    assert summary["weights"] == f"{finished.folder}/streets.safetensors"
    assert 0 < summary["mean_iou"] <= 100
    assert summary["images_per_second"] > 0
    model = models.load(summary["weights"])
    assert model.classes == CLASSES
    assert (model.card.name, model.card.licence) == ("streets", "CC0-1.0")
    assert list(model.card.scores.values()) == [summary["mean_iou"]]
    kept = [entry.key for entry in storage.list_files(f"{finished.folder}/checkpoints") if entry.key.endswith(".pt")]
    assert {int(name.removesuffix(".pt")) for name in kept} == {4, 6, summary["best_step"]}


@pytest.mark.slow
def test_progress_is_shown(finished: Run) -> None:
    assert "step 6 of 6: loss" in finished.messages
    assert "continuing" not in finished.messages
    for step in (2, 4, 6):
        assert f"step {step}: mean IoU 0." in finished.messages


@pytest.mark.slow
def test_tensorboard_files_hold_every_step(finished: Run) -> None:
    found = scalars(f"{finished.folder}/tensorboard")
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(value) for _, value in found["loss"])
    assert found["learning_rate"][3][1] == pytest.approx(0.01 * (1 - 3 / 6) ** 0.9, rel=1e-5)
    assert [step for step, _ in found["mean_iou"]] == [2, 4, 6]
    assert max(value for _, value in found["mean_iou"]) == pytest.approx(finished.summary["mean_iou"] / 100, abs=1e-4)


@pytest.mark.slow
def test_the_name_of_a_finished_run_is_refused(finished: Run) -> None:
    code, _, messages = finished.again()
    assert code == 2
    output = finished.folder.removesuffix("/streets")
    assert messages == f"train: the run 'streets' at {output} is finished; give another --name to train anew\n"


def deadly(steps: Sequence[int], marks: Path) -> Any:
    """The workers' function, but the first worker's process dies by a signal before each of `steps`, once."""
    whole = trainer.work

    def work(config: dict[str, Any]) -> None:
        from pipeline.training import loop

        one_step = loop.train_step

        def mortal(*args: Any) -> float:
            mark = marks / str(args[-1])
            if args[-1] in steps and os.environ["RANK"] == "0" and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return one_step(*args)

        loop.train_step = mortal
        whole(config)

    return work


@pytest.mark.long
def test_a_run_that_diverges_ends_at_once(finished: Run) -> None:
    """It is not tried again from its checkpoints, as a run that has lost a worker is."""
    code, _, messages = finished.again("--name=wild", "--recipe.base_lr=1e20", "--max_failures=3")
    assert code == 1
    assert "waiting for 2 workers, 1 CPU each" in messages
    last = messages.splitlines()[-1]
    assert last.startswith("train: the loss of step 2 is "), messages
    assert "Start anew with a recipe.base_lr below 1e+20, or with a recipe.clip_norm" in last


@pytest.mark.long
def test_lost_workers_and_a_lost_run_leave_no_trace_in_the_weights(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the run undisturbed, one that outlives the loss of a worker, ends at the next, and is started again."""
    flags = ("--name=lost", "--max_failures=1")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "work", deadly((3, 5), tmp_path))
        code, _, messages = finished.again(*flags)
    assert code == 1
    assert {mark.name for mark in tmp_path.iterdir()} == {"3", "5"}
    assert re.search(r"^continuing lost at step [02]$", messages, re.M), (
        messages
    )  # its last report may have been lost too
    assert messages.splitlines()[-1].startswith("train: training failed: ")
    code, _, messages = finished.again(*flags, "--recipe.base_lr=0.02")
    assert code == 2
    assert "was begun with other settings (base_lr 0.01 -> 0.02)" in messages
    code, lost, messages = finished.again(*flags)
    assert code == 0, messages
    assert "step 1 of 6" not in messages
    assert re.search(r"^continuing lost at step [24]$", messages, re.M), messages
    assert (lost["loss"], lost["mean_iou"]) == (finished.summary["loss"], finished.summary["mean_iou"])
    expected = models.load(finished.summary["weights"]).state_dict()
    for name, value in models.load(lost["weights"]).state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.long
@pytest.mark.parametrize("backbone", ["resnet50", "mobilenet-v2"])
@pytest.mark.parametrize("stride", ["", "-8"])
def test_deeplab_v3_plus_is_trained_goes_on_and_segments(
    backbone: str, stride: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With backbones that begin without weights, at output stride 16 and 8; the first run ends at its third step."""
    put_camvid(f"{tmp_path}/data", "train", 4)
    put_camvid(f"{tmp_path}/data", "val", 2)
    (tmp_path / "marks").mkdir()
    flags = (f"--model=deeplabv3plus-{backbone}{stride}", "--data_format=camvid", "--name=plus")
    flags += ("--recipe.iterations=4", "--recipe.batch=2", "--recipe.crop=33")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "work", deadly((3,), tmp_path / "marks"))
        code, _, messages = job(f"{tmp_path}/data", f"{tmp_path}/out", *flags, "--max_failures=0")
    assert code == 1, messages
    code, done, messages = job(f"{tmp_path}/data", f"{tmp_path}/out", *flags, "--max_failures=0")
    assert code == 0, messages
    assert "continuing plus at step 2" in messages
    model = models.load(done["weights"])
    assert model.network == f"{backbone.replace('-', '_')}, deeplabv3plus{stride.replace('-', '_')}"
    found = summary(f"--model={done['weights']}", f"--input={tmp_path}/data/val", f"--output={tmp_path}/masks")
    assert (found["segmented"], found["failed"], found["network"]) == (2, 0, model.network)


def test_bad_data_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    put_camvid(f"{tmp_path}/data", "train", 5)
    masks = tmp_path / "data" / "trainannot"
    (masks / "000.png").unlink()
    (masks / "001.png").write_bytes(palette_png(torch.zeros(20, 30, dtype=torch.uint8).numpy()))
    (masks / "002.png").write_bytes(palette_png(torch.full((48, 64), 7, dtype=torch.uint8).numpy()))
    (tmp_path / "data" / "train" / "003.png").write_bytes(b"no picture")
    flags = (*LIGHT, "--data_format=camvid", "--validation_split=null", "--name=bad")
    code, _, messages = job(f"{tmp_path}/data", f"{tmp_path}/out", *flags)
    assert code == 2
    first, *others = messages.splitlines()
    assert first == "train: 4 of 5 labelled pictures cannot be used:"
    assert [line.split(":")[0].strip() for line in others] == [f"train/00{i}.png" for i in range(4)]
    assert "there is no mask" in others[0]
    assert "64x48 pixels and its mask 30x20" in others[1]
    assert "the class id 7; there are 3 classes" in others[2]
    assert list((tmp_path / "out" / "bad").iterdir()) == []


def scalars(uri: str) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by name, from event files: length (8 bytes), its checksum (4), the event, its checksum (4)."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in storage.list_files(uri):
        data, at = storage.read_bytes(entry.uri), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += length + 16
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


@pytest.mark.long
def test_the_benchmark_sets_the_job_against_the_bare_loop(tmp_path: Path) -> None:
    put_camvid(f"{tmp_path}/data", "train", 6)
    flags = [f"--data={tmp_path}/data", "--data_format=camvid", "--repeat=1", "--workers=2"]
    flags += ["--recipe.iterations=320", "--recipe.batch=2", "--recipe.crop=33"]
    command = [sys.executable, "-m", "benchmarks.training", *flags]
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    loop, job, ratio = (float(row[1]) for row in rows)
    assert ratio == pytest.approx(job / loop, rel=0.02)
