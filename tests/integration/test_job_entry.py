"""jobs/segment_bucket.py as a person starts it: its messages, exit codes and interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import s3fs

from pipeline import masks, storage
from pipeline.commands.models import command as models
from pipeline.commands.segment import command as segment_bucket
from pipeline.models.adapters import ADAPTERS
from pipeline.models.catalogue import catalogue
from tests.helpers.pictures import jpeg, photo
from tests.helpers.segmenting import last_line, rows, run_job, summary
from tests.helpers.servers import LISTER_KEY, READER_KEY, SECRET

ROOT = Path(__file__).parents[2]
JOB = "jobs/segment_bucket.py"


def environment(**changes: str) -> dict[str, str]:
    """Of a person who has activated the environment that runs the tests."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "RAY_AUTH_MODE": "disabled", "COLUMNS": "200"} | changes


def start(*flags: str, **changes: str) -> subprocess.Popen[str]:
    command = [sys.executable, JOB, *flags]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's background ignores it
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def test_help_names_every_flag_of_the_readme() -> None:
    code, out, _ = run_job("--help")
    assert code == 0
    for flag in ("--input ", "--output ", "--model ", "--input-format", "--limit", "--error-budget", "--config"):
        assert flag in out
    assert "{native, pydensecrf, none}" in out


def test_print_config_holds_no_credential_and_is_a_config(tmp_path: Path) -> None:
    code, out, _ = run_job("--input", "s3://key:hidden@bucket/x", "--output=/tmp/o", "--limit=5", "--print_config")
    assert code == 0
    assert "hidden" not in out
    (tmp_path / "run.yaml").write_text(out)
    assert run_job("--config", str(tmp_path / "run.yaml"), "--print_config") == (0, out, "")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--no-such-flag"], "no_such_flag"),
        (["--error-budget", "2"], "error_budget is 2"),
        (["--refine.backend", "gpu"], "refine.backend"),
        (["--model", "no-such-model"], "no model is called 'no-such-model'"),
        (["--input", "/nowhere/at/all"], "cannot list /nowhere/at/all"),
        (["--output", "/proc/nothing/out"], "cannot write /proc/nothing/out"),
        (["--inference.tile", "3"], "tile is 3"),
        (["--inference.tile=17", "--inference.overlap=8", "--inference.scales=[1,0.5]"], "too small for the scales"),
        (["--inference.scales", "[0.33]"], "the scale 0.33 is no fraction"),
        (["--input", "s3://AKIA:hid/den@bucket/x"], "s3://***@bucket/x holds credentials"),
    ],
)
def test_bad_arguments_end_with_2_and_one_message(tmp_path: Path, flags: list[str], message: str) -> None:
    storage.put_whole(f"{tmp_path}/in/a.jpg", jpeg(photo(0)))
    code, out, err = run_job("--input", f"{tmp_path}/in", "--output", str(tmp_path / "out"), *flags)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_without_a_model_the_run_ends_with_2_and_says_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage.put_whole(f"{tmp_path}/in/a.jpg", jpeg(photo(0)))
    assert segment_bucket.main([f"--input={tmp_path}/in", f"--output={tmp_path}/out"]) == 2
    out, err = capsys.readouterr()
    first, *names = err.splitlines()
    assert (out, first) == (
        "",
        "segment: a run names its model: give --model one of these, or weights of yours:",
    )
    assert "  street                             11 classes, from CamVid train and val, 468 frames of 480x360" in names
    listed = [one.name for one in catalogue() if one.classes]
    assert [line.split()[0] for line in names] == [*listed, *(adapter.example for adapter in ADAPTERS.values())]
    assert not (tmp_path / "out").exists()


def test_the_list_of_models_has_their_classes_licence_scores_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert models.main(["--json"]) == 0
    listed = {one["name"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    street = listed["street"]
    assert (street["kind"], len(street["classes"]), street["bytes"]) == (
        "built in",
        11,
        Path(street["place"]).stat().st_size,
    )
    assert street["scores"] == {}  # no labelled frame is left that it has not seen
    assert listed["scenes"]["scores"]["mean IoU on 100 held-out scenes"] == 69.07
    assert listed["resnet101-imagenet"]["kind"] == "backbone"
    assert listed["deeplabv2-resnet101-voc"]["licence"] == "MIT"
    assert models.main([]) == 0
    out = capsys.readouterr().out
    assert "street (built in)\n  trained on: CamVid train" in out
    assert "hf (adapter): a network of Hugging Face transformers, from the hub or a folder, as in --model hf:ORG" in out


@pytest.mark.parametrize(
    ("changes", "missing", "code", "message"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "", 1, "cannot list s3://{bucket}/in: no connection"),
        ({"AWS_SECRET_ACCESS_KEY": f"not-{SECRET}"}, "", 2, "cannot list s3://{bucket}/in: access denied"),
        ({"AWS_ACCESS_KEY_ID": LISTER_KEY}, "", 2, "cannot read s3://{bucket}/in/000.jpg: access denied"),
        ({"AWS_ACCESS_KEY_ID": READER_KEY}, "", 2, "cannot write s3://{bucket}/out"),
        ({}, "-missing", 2, "cannot list s3://{bucket}-missing/in: there is no such bucket"),
    ],
)
def test_unusable_storage_ends_with_one_message(
    bucket: str, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], missing: str, code: int, message: str
) -> None:
    storage.put_whole(f"{bucket}/in/000.jpg", jpeg(photo(0)))
    with monkeypatch.context() as environment:
        for name, value in changes.items():
            environment.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        ended, out, err = run_job("--input", f"{bucket}{missing}/in", "--output", f"{bucket}/out")
    s3fs.S3FileSystem.clear_instance_cache()
    assert (ended, out) == (code, "")
    assert message.format(bucket=bucket.removeprefix("s3://")) in err
    assert "Traceback" not in err
    assert SECRET not in err


@pytest.mark.slow
def test_broken_files_cost_themselves_alone_and_above_the_budget_the_run_ends_with_3(
    cluster: None, bucket: str
) -> None:
    whole = jpeg(photo(0))
    damage = [b"", b"not an image", whole[: len(whole) // 2], b"\x89PNG\r\n\x1a\n" + bytes(50), b"GIF89a" + bytes(9)]
    for i in range(20):
        storage.put_whole(f"{bucket}/in/{i:03d}.jpg", jpeg(photo(i, 40, 56)))
        storage.put_whole(f"{bucket}/in/broken-{i:02d}.jpg", damage[i % len(damage)])
    code, out, err = run_job("--input", f"{bucket}/in", "--output", f"{bucket}/out")
    assert code == 3, err
    counts = last_line(out)
    assert (counts["listed"], counts["segmented"], counts["failed"]) == (40, 20, 20)
    assert "20 of 40 images failed" in err
    assert "plan: 2 segmenting" in err
    assert "40 of 40 images, 20 failed, " in err
    plan = counts["plan"]
    assert (plan["segmenters"], plan["refiners"]) == (2, 2)
    assert plan["segmenters"] * plan["segmenter_cpus"] + plan["refiners"] * plan["refiner_cpus"] <= 2
    assert sorted(key for key, _ in masks.read(f"{bucket}/out")) == [f"{i:03d}.jpg" for i in range(20)]
    errors = rows(f"{bucket}/out", "errors")
    assert sorted(row["key"] for row in errors) == [f"broken-{i:02d}.jpg" for i in range(20)]
    assert {(row["stage"], row["error"]) for row in errors} == {("decode", "ImageError")}
    assert all(row["message"] and row["source"].startswith("s3://") for row in errors)


@pytest.mark.long
def test_an_interrupted_run_is_continued(cluster: None, tmp_path: Path) -> None:
    source = str(tmp_path / "in")
    for i in range(32):
        storage.put_whole(f"{source}/{i:03d}.jpg", jpeg(photo(i, 160, 240)))
    flags = ("--input", source, "--output", f"{tmp_path}/out", "--model=scenes")
    slowly = ("--refine.backend=pydensecrf", "--commit-seconds=0.5")  # enough to be interrupted in the middle
    process = start(*flags, *slowly)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("out/masks/*.parquet")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (1, ""), err
    assert "interrupted" in err
    assert "Traceback" not in err
    committed = len(list(masks.read(f"{tmp_path}/out")))
    assert summary(*flags)["skipped"] == committed > 0
    keys = [key for key, _ in masks.read(f"{tmp_path}/out")]
    assert sorted(keys) == [f"{i:03d}.jpg" for i in range(32)]
