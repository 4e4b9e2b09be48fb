"""What surrounds the workers of a run, on a real Ray instance: their shares, their reports, and storage errors."""

import re
import time

import numpy as np
import pytest
import ray
import ray.train

from pipeline.data.labelled import list_pairs
from pipeline.errors import ConfigError, RunError, StorageError
from pipeline.labels import Labels
from pipeline.runtime import cluster, labelled
from pipeline.runtime.tasks import tables
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.distributed import trainer
from pipeline.training.recipe import Recipe
from pipeline.training.workers import Share
from tests.helpers.labelled import CLASSES, png, put_camvid

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote(num_cpus=1)
class Other:
    """Somebody else's actor."""

    def ready(self):
        return True


@pytest.fixture
def one_cpu_taken():
    other = Other.remote()
    ray.get(other.ready.remote())
    yield other
    ray.kill(other)


def test_workers_share_what_is_free(one_cpu_taken, monkeypatch):
    monkeypatch.setattr(cluster, "_RELEASE_SECONDS", 2.0)
    deadline = time.monotonic() + 30
    while trainer.share_when_free(1, 1) != Share(cpus=1, gpu=False):  # Ray reports what is free now and then
        assert time.monotonic() < deadline
    with pytest.raises(RunError, match="2 workers need a CPU each, and the cluster has 1 CPU / 0 GPU free"):
        trainer.share_when_free(2, 2)
    monkeypatch.setattr(cluster, "_RELEASE_SECONDS", 60.0)
    ray.kill(one_cpu_taken)
    assert trainer.share_when_free(2, 2) == Share(cpus=1, gpu=False)


def test_a_lost_report_queue_costs_its_reports():
    reports = trainer.start_report_queue()
    ray.get(reports.put.remote({"step": 1.0}))
    ray.kill(reports, no_restart=False)
    deadline = time.monotonic() + 60
    while True:  # a note may still reach the process that is being killed
        reports.put.remote({"step": 2.0})
        if {"step": 2.0} in trainer.take_reports(reports):
            break
        assert time.monotonic() < deadline
    ray.kill(reports)
    assert trainer.take_reports(reports) == []


@pytest.mark.parametrize(
    ("came", "message"),
    [
        (None, "^no checkpoint in .* is whole; the same command trains anew$"),
        (ray.train.ControllerError(RunError("the loss of step 2 is nan")), "^the loss of step 2 is nan$"),
    ],
)
def test_a_training_without_an_outcome_says_why(tmp_path, monkeypatch, capsys, came, message):
    class Trainer:
        def fit(self):
            if came:
                raise came

    monkeypatch.setattr(trainer, "_trainer", lambda *_: Trainer())
    fit = {"checkpoints": Checkpoints(folder=str(tmp_path), check=lambda: None), "workers": (1, 2), "max_failures": 0}
    with pytest.raises(RunError, match=message):
        trainer.fit(None, Recipe(), None, None, **fit)
    assert "waiting for 1 to 2 workers, 1 CPU each" in capsys.readouterr().err


def test_what_storage_says_in_a_task_is_raised_as_it_was_said():
    def call():
        raise StorageError("cannot read s3://a/b: no connection")

    with pytest.raises(StorageError, match="^" + re.escape("cannot read s3://a/b: no connection") + "$") as raised:
        tables([call], at_once=1)
    assert not isinstance(raised.value, ray.exceptions.RayError)


def test_all_that_is_wrong_with_labelled_pictures_is_told_by_name(tmp_path):
    put_camvid(str(tmp_path), "train", 3)
    (tmp_path / "train" / "000.png").rename(tmp_path / "train" / "000.ppm")
    (tmp_path / "train" / "000.ppm").write_bytes(b"P6 1 1 255\n")
    (tmp_path / "trainannot" / "001.png").unlink()
    message = (
        "2 of 3 labelled pictures cannot be used:\n  train/000.ppm: not a JPEG.*\n  train/001.png: there is no mask"
    )
    with pytest.raises(ConfigError, match=message):
        labelled.load(list_pairs(str(tmp_path), "camvid", "train"), Labels(classes=CLASSES), "train")


def test_labels_that_make_no_sense_are_said_and_a_split_without_any_is_refused(tmp_path, capsys):
    put_camvid(str(tmp_path), "train", 2)
    pairs = list_pairs(str(tmp_path), "camvid", "train")
    two = Labels(classes=("background", "road"))
    for values, said in (((0, 255), "is of one class, 'background'"), ((255, 255), None)):
        for seed, value in enumerate(values):
            (tmp_path / "trainannot" / f"00{seed}.png").write_bytes(png(np.full((48, 64), value, np.uint8)))
        if said:
            assert labelled.load(pairs, two, "train").pixels == (48 * 64, 0)
            assert f"warning: every counted pixel of the split 'train' {said}" in capsys.readouterr().err
        else:
            with pytest.raises(ConfigError, match="the masks of the split 'train' hold no pixel that is counted"):
                labelled.load(pairs, two, "train")
