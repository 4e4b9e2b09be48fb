"""What is shown and recorded of a run; a storage that fails costs the record, not the run."""

import pytest

from pipeline import storage
from pipeline.errors import StorageError
from pipeline.training import training_log
from pipeline.training.training_log import TrainingLog


def report(step):
    return {"step": step, "loss": 1.0, "learning_rate": 0.1, "time": float(step)}


def test_files_that_cannot_be_written_are_written_a_minute_later(tmp_path, monkeypatch, capsys):
    put, failing, tried = storage.put_whole, [True], []

    def unsteady(uri, data, *, once=False):
        tried.append(once)
        if failing[0]:
            raise StorageError("cannot write there")
        put(uri, data)

    monkeypatch.setattr(storage, "put_whole", unsteady)
    monkeypatch.setattr(training_log, "_UPLOAD_SECONDS", 0.0)
    with TrainingLog("model", 3, str(tmp_path)) as shown:
        shown.show([report(1)])
        assert "the TensorBoard files were not written: cannot write there" in capsys.readouterr().err
        failing[0] = False
        shown.show([report(2)])
        assert list(tmp_path.iterdir())
        failing[0] = True
    assert "were not written" in capsys.readouterr().err
    assert shown.steps_per_second == 1.0
    assert tried == [True, True, False]  # the last time a storage is waited for


def test_a_run_that_failed_does_not_wait_for_its_last_files(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(storage, "put_whole", lambda uri, data, *, once=False: tried.append(once))
    with pytest.raises(ZeroDivisionError), TrainingLog("model", 3, str(tmp_path)):
        _ = 1 / 0
    assert tried == [True]


def test_a_run_that_goes_on_names_its_step(tmp_path, capsys):
    with TrainingLog("streets", 30, str(tmp_path)) as log:
        log.show([{"begun_at": 0}, report(1)])
        assert "continuing" not in capsys.readouterr().err
        log.show([{"begun_at": 0}])  # the first worker was lost before the first checkpoint
        assert "continuing streets at step 0" in capsys.readouterr().err
    with TrainingLog("streets", 30, str(tmp_path)) as log:
        log.show([{"begun_at": 10}])
        assert "continuing streets at step 10" in capsys.readouterr().err


def test_a_line_is_said_as_it_is(tmp_path, capsys):
    with TrainingLog("streets", 30, str(tmp_path)) as log:
        log.show(["the checkpoint of step 6 is damaged", {"begun_at": 4}])
    assert capsys.readouterr().err.startswith("the checkpoint of step 6 is damaged\ncontinuing streets at step 4\n")
