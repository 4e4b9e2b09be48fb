"""What is shown and recorded of a run; a storage that fails costs the record, not the run."""

import pytest

from pipeline import storage
from pipeline.errors import StorageError
from pipeline.training import training_log
from pipeline.training.training_log import TrainingLog


def note(step):
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
    with TrainingLog(3, str(tmp_path)) as shown:
        shown.show([note(1)])
        assert "the TensorBoard files were not written: cannot write there" in capsys.readouterr().err
        failing[0] = False
        shown.show([note(2)])
        assert list(tmp_path.iterdir())
        failing[0] = True
    assert "were not written" in capsys.readouterr().err
    assert shown.steps_per_second == 1.0
    assert tried == [True, True, False]  # the last time a storage is waited for


def test_a_run_that_failed_does_not_wait_for_its_last_files(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(storage, "put_whole", lambda uri, data, *, once=False: tried.append(once))
    with pytest.raises(ZeroDivisionError), TrainingLog(3, str(tmp_path)):
        _ = 1 / 0
    assert tried == [True]
