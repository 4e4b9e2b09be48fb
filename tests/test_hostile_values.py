"""No flag of a job, and no file that a flag names, ends it in a traceback, whatever stands there.

All in this process and without Ray: what passes every check before the work ends there as Ctrl-C would end it.
"""

import functools
import io
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import models, storage
from pipeline.batch.config import RunConfig
from pipeline.commands.command import Command
from pipeline.commands.demo import command as demo
from pipeline.commands.evaluate import command as evaluate
from pipeline.commands.search_crf import command as search_crf
from pipeline.commands.segment import command as segment_bucket
from pipeline.commands.train import command as train
from pipeline.commands.train_scenes import command as train_scenes
from pipeline.commands.verify import command as verify_output
from pipeline.evaluation.config import EvaluateConfig
from pipeline.evaluation.demo_config import DemoConfig
from pipeline.evaluation.search_config import SearchConfig
from pipeline.models.built_in import BUILT_IN
from pipeline.runtime import cluster
from pipeline.runtime.lock import Lock
from pipeline.training import scenes
from pipeline.training.config import TrainConfig
from pipeline.training.scenes_config import ScenesConfig
from tests.helpers.hostile import CONTENTS, EVERYWHERE, ODD, Job, flags_of, kept_parser, told
from tests.helpers.labelled import put_camvid, put_voc
from tests.helpers.pictures import jpeg, photo


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the jobs are to read: a picture, labelled pictures in two layouts, and a model."""
    folder = tmp_path_factory.mktemp("hostile")
    storage.put_whole(f"{folder}/in/a.jpg", jpeg(photo(0)))
    for split in ("train", "val"):
        put_camvid(f"{folder}/data", split, 1)
    put_voc(f"{folder}/voc", "val", 1)
    shutil.copy(BUILT_IN / "street.safetensors", folder / "card.safetensors")
    return folder


@pytest.fixture(autouse=True)
def before_the_work(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """End jobs where their work would begin, and read each model once."""

    def interrupted() -> bool:
        raise KeyboardInterrupt

    monkeypatch.chdir(place)
    monkeypatch.setattr(Command, "parser", kept_parser)
    monkeypatch.setattr(Lock, "confirm", Lock.check)  # no other run comes at the same time
    monkeypatch.setattr(cluster, "ray", SimpleNamespace(is_initialized=interrupted))  # what `connect` asks first
    monkeypatch.setattr(scenes, "run", lambda config: {})
    monkeypatch.setattr(models, "load", LOAD)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


LOAD = functools.cache(models.load)


LABELLED = ("--data=data", "--data_format=camvid")
JOBS: dict[str, tuple[Job, Any, tuple[str, ...]]] = {
    "segment_bucket": (segment_bucket.main, RunConfig, ("--input=in", "--output=out", "--model=scenes")),
    "evaluate": (evaluate.main, EvaluateConfig, (*LABELLED, "--model=street")),
    "search_crf": (search_crf.main, SearchConfig, (*LABELLED, "--model=street", "--output=found")),
    "train": (train.main, TrainConfig, (*LABELLED, "--output=runs", "--recipe.no-freeze-bn")),
    "train_scenes": (train_scenes.main, ScenesConfig, ("--output=scenes",)),
    "demo": (demo.main, DemoConfig, ()),
}


def distinct() -> Iterator[tuple[str, str]]:
    """Give job and flag of each field that any job has."""
    seen = set()
    for name, (_, config, _) in JOBS.items():
        for flag, field in (*flags_of(config), ("config", ("config", name))):
            if field not in seen:
                seen.add(field)
                yield name, flag


@pytest.mark.parametrize(("name", "flag"), list(distinct()))
def test_no_value_of_a_flag_ends_in_a_traceback(name: str, flag: str) -> None:
    job, _, others = JOBS[name]
    for value in EVERYWHERE:
        told(job, *others, f"--{flag}={value}")


@pytest.mark.parametrize(
    ("name", "flag"),
    [(name, flag) for name, (_, config, _) in JOBS.items() for flag, (_, hint) in flags_of(config) if "int" in hint],
)
def test_a_number_too_large_to_count_with_is_refused(name: str, flag: str) -> None:
    job, _, others = JOBS[name]
    for value in (2**53 + 1, 2**63, 10**400):
        assert flag.rpartition(".")[2] in told(job, *others, f"--{flag}={value}")


@pytest.mark.parametrize("flag", ["limit", "max_pixels", "inference.tile"])
def test_the_largest_number_is_counted_with(flag: str) -> None:
    assert "interrupted" in told(JOBS["segment_bucket"][0], *JOBS["segment_bucket"][2], f"--{flag}={2**53}")


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("segment_bucket", "input"),
        ("segment_bucket", "model"),
        ("segment_bucket", "limit"),
        ("segment_bucket", "refine"),
        ("segment_bucket", "refine.params"),
        ("segment_bucket", "config"),
        ("search_crf", "bilateral_xy"),
        ("evaluate", "classes"),
        ("train", "workers"),
    ],
)
def test_no_odd_value_ends_in_a_traceback(name: str, flag: str) -> None:
    job, _, others = JOBS[name]
    for value in ODD:
        told(job, *others, f"--{flag}={value}")


@pytest.mark.parametrize("value", ["", "\0", "\udc80", "s3://", "https://[", "/dev/null", "x" * 5000, "nofs::x://y"])
def test_no_output_to_verify_ends_in_a_traceback(value: str) -> None:
    told(verify_output.main, value, "--repair")


def jobs_that_read(content: bytes, place: Path) -> Iterator[tuple[Job, list[str]]]:
    """Put a content into each file that a flag names, or that lies where a flag points to, in turn."""

    def put(*paths: str) -> None:
        for path in paths:
            storage.put_whole(f"{place}/{path}", content)

    put("f.yaml", "m.safetensors", "m.pth", "card.json", "voc/ImageSets/Segmentation/odd.txt", "masks/masks/a.parquet")
    put("verified/_runs/a/config.yaml", "verified/_runs/a/summary.json", "runs/model/settings.json")
    segment, training = ([*others] for _, _, others in (JOBS["segment_bucket"], JOBS["train"]))
    for flag in ("config", "refine", "refine.params", "inference", "prices"):
        yield segment_bucket.main, [*segment, f"--{flag}=f.yaml"]
    for weights in ("m.safetensors", "m.pth", "card.safetensors"):
        yield segment_bucket.main, [*segment, f"--model={weights}"]
    yield train.main, training
    yield train.main, [*training, "--name=other", "--init=m.pth"]
    yield train.main, [*training, "--name=other", "--recipe=f.yaml"]
    yield evaluate.main, ["--data=voc", "--data_format=voc", "--split=odd", "--model=street"]
    yield evaluate.main, [*LABELLED, "--masks=masks"]
    yield verify_output.main, ["masks"]
    yield verify_output.main, ["verified", "--repair"]
    for suffix, layout in (("jpg", "images"), ("tar", "webdataset"), ("parquet", "parquet")):
        put(f"{layout}/val.{suffix}")
        yield segment_bucket.main, [f"--input={layout}", "--output=out", "--model=scenes"]
        if layout != "images":
            yield evaluate.main, [f"--data={layout}", f"--data_format={layout}", "--model=street"]


@pytest.mark.parametrize("name", CONTENTS)
def test_no_file_that_a_flag_names_ends_in_a_traceback(name: str, place: Path) -> None:
    for job, flags in jobs_that_read(CONTENTS[name], place):
        told(job, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--refine.params.bilateral_xy=-1"], "segment: CRF bilateral_xy must be in [0.1, 100000], not -1.0"),
        (["--refine.params.iterations=null"], "segment: CRF iterations must be in [0, 1000], not None"),
        (["--commit_seconds=.nan"], "segment: commit_seconds is nan; give a finite number"),
        (["--storage_timeout=.inf"], "segment: storage_timeout is inf; give a finite number"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(flags: list[str], message: str) -> None:
    assert told(segment_bucket.main, "--input=in", "--output=out", "--model=scenes", *flags) == f"{message}\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_configuration_is_read_as_editors_store_it(encoding: str, place: Path) -> None:
    (place / "run.yaml").write_bytes("limit: 3  # café\n".encode(encoding))
    flags = ("--input=in", "--output=out", "--config=run.yaml", "--print_config")
    with redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
        segment_bucket.main([*flags])
    assert "\nlimit: 3\n" in out.getvalue()
