"""Evaluation and search wait for a storage that stops answering in the middle, as long as they are asked to."""

import pytest

from pipeline.errors import ConfigError
from pipeline.evaluation import crf_search, run
from pipeline.evaluation.config import EvaluateConfig
from pipeline.evaluation.search_config import SearchConfig
from pipeline.scenes import CLASSES
from pipeline.storage.outages import retry_seconds
from tests.helpers.labelled import put_camvid


class ReachedError(Exception):
    """The pictures are asked for, in a process that asks its storage again for so many seconds."""


@pytest.mark.usefixtures("cluster")  # which the jobs join, rather than leave one of their own behind
@pytest.mark.parametrize(
    ("module", "config", "work"),
    [(run, EvaluateConfig, run.evaluate), (crf_search, SearchConfig, crf_search.search)],
    ids=["evaluate", "search"],
)
def test_both_wait_for_their_storage(tmp_path, monkeypatch, module, config, work):
    put_camvid(f"{tmp_path}/data", "val", 1)
    where = {"data": f"{tmp_path}/data", "data_format": "camvid", "classes": CLASSES, "output": f"{tmp_path}/out"}

    def fetch_labelled(*_):
        raise ReachedError(retry_seconds())

    monkeypatch.setattr(module, "fetch_labelled", fetch_labelled)
    with pytest.raises(ReachedError) as reached:
        work(module.prepare(config(**where, model="scenes", storage_timeout=7.0)))
    assert reached.value.args == (7.0,)
    assert config(**where, model="scenes").storage_timeout == 300
    with pytest.raises(ConfigError, match="storage_timeout is -1"):
        config(**where, model="scenes", storage_timeout=-1)
