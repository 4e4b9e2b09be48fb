"""Paths and URIs that a person gives: taken as they stand, or refused with a line that says what to write."""

import functools
import pickle
from contextlib import suppress
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import storage
from pipeline.batch.config import RunConfig
from pipeline.cli import Parser, parser_of, read
from pipeline.commands.evaluate import command as evaluate
from pipeline.commands.search_crf import command as search_crf
from pipeline.commands.segment import command as segment_bucket
from pipeline.commands.train import command as train
from pipeline.commands.verify import command as verify_output
from pipeline.errors import ConfigError, PipelineError
from pipeline.evaluation.config import EvaluateConfig
from pipeline.evaluation.demo_config import DemoConfig
from pipeline.evaluation.search_config import SearchConfig
from pipeline.storage import Uri
from pipeline.storage.uri import base_name, parent
from pipeline.training.config import TrainConfig
from pipeline.training.scenes_config import ScenesConfig

REQUIRED: dict[type, dict[str, str]] = {
    RunConfig: {"input": "i", "output": "o"},
    EvaluateConfig: {"data": "d", "data_format": "voc", "model": "m"},
    SearchConfig: {"data": "d", "data_format": "voc", "model": "m", "output": "o"},
    TrainConfig: {"data": "d", "data_format": "voc", "output": "o"},
    ScenesConfig: {"output": "o"},
    DemoConfig: {"output": "o"},
}
FLAGS = [
    (config, name)
    for config in REQUIRED
    for name, hint in get_type_hints(config).items()
    if Uri in (hint, *get_args(hint)) and (config, name) != (EvaluateConfig, "masks")  # instead of a model
]
LIKE_YAML = [
    "runs/a: b",
    "- x",
    "null",
    "~",
    "[a]",
    "{a: b}",
    "a:",
    "1",
    "0123",
    "1e3",
    "true",
    "12:30",
    "a #b",
    "'q'",
    "-x",
]


@functools.cache
def parser(config: type) -> Parser:
    return parser_of(config, "")


def parsed(config: type, name: str, *flags: str) -> Any:
    others = [f"--{flag}={value}" for flag, value in REQUIRED[config].items() if flag != name]
    return getattr(read(parser(config), config, [*others, *flags]), name)


@pytest.mark.parametrize(("config", "name"), FLAGS)
def test_a_path_is_a_string_and_stays_one(config: type, name: str, tmp_path: Path) -> None:
    for text in LIKE_YAML:
        assert parsed(config, name, f"--{name}={text}") == text
        (tmp_path / "job.yaml").write_text(yaml.safe_dump({name: text}, default_style='"'))
        value = parsed(config, name, f"--config={tmp_path}/job.yaml")
        assert (value, type(value)) == (text, Uri)
    assert parsed(config, name, f"--{name}", "runs/a: b") == "runs/a: b"


def test_every_job_has_its_paths_here() -> None:
    assert {(config, field.name) for config in REQUIRED for field in fields(config) if "Uri" in str(field.type)} == {
        *FLAGS,
        (EvaluateConfig, "masks"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty; give a path or a URI"),
        ("s3:/bucket/x", "write s3://bucket/x"),
        ("gs:/bucket/x", "write gs://bucket/x"),
        ("file:/tmp/x", "write file:///tmp/x"),
        ("s3:/key:secret@bucket/x", "write s3://***@bucket/x"),
        ("s3://", "s3:// names no bucket; write s3://bucket/folder"),
        ("s3:///AKIA:hidden@x", "s3:// names no bucket"),
        ("https:///x", "names no host"),
        ("https://[h/x", "not a valid URI"),
        ("file://masks/out", "names no absolute path, or one on another host; write file:///folder"),
        ("FILE://", "names no absolute path"),
        ("file://localhost", "names no absolute path"),
        ("local://masks/out", "write local:///folder"),
        ("a\0b", "is not text in UTF-8 without null characters"),
        ("caf\udce9", "is not text in UTF-8 without null characters"),
    ],
)
def test_what_is_no_path_is_refused(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        Uri(text)
    assert message in str(refused.value)
    for job, other, flag in (
        (segment_bucket, "--input=x", "output"),
        (segment_bucket, f"--output={tmp_path}", "input"),
        (evaluate, "--data_format=voc", "data"),
        (search_crf, "--data_format=voc", "output"),
        (train, "--data_format=voc", "init"),
    ):
        assert job.main([other, f"--{flag}={text}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"{job.name}: {flag}: ")
        assert message in error
        assert error.count("\n") == 1
    assert verify_output.main([text]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("value", [2024, ["a"], {"a": "b"}, True])
def test_a_path_in_yaml_that_is_no_string_is_refused(value: object, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({"output": value}))
    for config in (RunConfig, EvaluateConfig):
        with pytest.raises(ConfigError, match=r"output is .* to YAML, and no path; write it in quotes"):
            parsed(config, "output", f"--config={tmp_path}/job.yaml")


def test_a_uri_keeps_its_text_but_for_the_case_of_its_scheme() -> None:
    assert Uri("S3://Bucket/X") == "s3://Bucket/X"
    assert pickle.loads(pickle.dumps(Uri("runs/A: b"))) == Uri("runs/A: b")


def test_a_local_path_may_name_this_host(tmp_path: Path) -> None:
    """RFC 8089."""
    storage.put_whole(Uri(f"file://LocalHost{tmp_path}/a"), b"x")
    assert Uri("file://localhost/a/localhost") == "file:///a/localhost"
    assert storage.read_bytes(f"{tmp_path}/a") == b"x"


@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("s3://b/x//", "s3://b/x"),
        ("file:///", "file:///"),
        ("memory://", "memory://"),
        ("/", "/"),
        ("https://h/x/", "https://h/x"),
        ("https://h/x?sig=a/", "https://h/x?sig=a/"),
    ],
)
def test_paths_are_made_absolute(uri: str, absolute: str) -> None:
    assert storage.normalize(uri) == absolute


@pytest.mark.parametrize("uri", ["/a.jpg", "/d/a.jpg", "file:///a.jpg", "s3://b/d/a.jpg", "https://h/d/a.jpg?sig=x/y"])
def test_a_root_and_a_key_make_a_uri(uri: str) -> None:
    key = base_name(uri)
    assert key == "a.jpg"
    assert storage.join(parent(uri, key), key) == uri


def test_a_link_with_a_query_is_below_its_page() -> None:
    assert parent("https://h/d/get?f=a.jpg", "get?f=a.jpg") == "https://h/d"
    assert parent("https://h/d/a.jpg?f=a.jpg", "a.jpg") == "https://h/d?f=a.jpg"


@pytest.mark.parametrize(
    ("file", "text", "uri"),
    [
        ("/l/l.txt", "../a b.jpg", "/a b.jpg"),
        ("/l.txt", "a.jpg", "/a.jpg"),
        ("s3://b/l/l.txt", "x/1.jpg", "s3://b/l/x/1.jpg"),
        ("s3://b/l/l.txt", "./x/./1.jpg", "s3://b/l/x/1.jpg"),
        ("s3://b/l/l.txt", "../x/../1.jpg", "s3://b/1.jpg"),
        ("s3://b/l.txt", "x..jpg", "s3://b/x..jpg"),
        ("s3://b/d//l.txt", "x//1.jpg", "s3://b/d//x//1.jpg"),
        ("s3://b/./l.txt", "1.jpg?a=../b", "s3://b/./1.jpg?a=../b"),
        ("file:///l.txt", "1.jpg", "file:///1.jpg"),
        ("https://h/d/l.txt?sig=/x", "../1.jpg?a=../b", "https://h/1.jpg?a=../b"),
        ("/l/l.txt", "s3://b/../1.jpg", "s3://b/../1.jpg"),
    ],
)
def test_what_stands_in_a_file_begins_where_that_lies(file: str, text: str, uri: str) -> None:
    assert storage.absolute(text, file) == uri


@pytest.mark.parametrize(("file", "text"), [("s3://b/l/l.txt", "../../c/1.jpg"), ("https://h/l.txt", "..")])
def test_what_stands_in_a_file_stays_in_its_bucket(file: str, text: str) -> None:
    with pytest.raises(ConfigError, match=r"leads out of (s3://b|https://h), where"):
        storage.absolute(text, file)


TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("/:*?[]~{}#&!.-"), max_size=20)
STARTS = [
    "",
    "",
    "s3:",
    "s3:/",
    "s3://",
    "S3://",
    "file://",
    "memory://",
    "memory:/",
    "http://127.0.0.1:1/",
    "nosuch://",
]


@given(text=st.builds("".join, st.tuples(st.sampled_from(STARTS), TEXTS)), flag=st.sampled_from(["input", "output"]))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_text_is_a_path_or_refused_in_one_line(
    s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, flag: str
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        value = parsed(RunConfig, flag, f"--{flag}={text}")
    except ConfigError:
        return
    assert value.removeprefix("s3") == (
        text.removeprefix("S3") if text.startswith("S3://") else text.removeprefix("s3")
    )
    uri = storage.normalize(value)
    if not uri.startswith(("/", "file:")) or uri.startswith(str(tmp_path)):  # and the whole disk is not searched
        with suppress(PipelineError):
            list(islice(storage.list_files(uri), 5))
        with suppress(PipelineError):
            storage.probe_writable(uri)
