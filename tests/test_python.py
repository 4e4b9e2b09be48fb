"""The jobs from Python: one function a job, with the arguments of its flags, and the summary as its result."""

import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline
from pipeline.commands import COMMANDS
from pipeline.commands.program import loaded
from pipeline.errors import ConfigError
from tests.helpers.outputs import note, put_rows, row

WITHOUT = {"models", "demo", "train-scenes"}
"""Commands that are no function: a listing, and two that are of this project alone."""
FUNCTIONS = [name for name in COMMANDS if name not in WITHOUT]


@pytest.fixture
def output(tmp_path: Path) -> str:
    for night, label in enumerate((1, 2), start=1):
        info = note(night=night)
        put_rows(f"{tmp_path}/out", info, [row(f"{night}", np.full((6, 8), label, np.uint8), info)])
    return f"{tmp_path}/out"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_job_is_a_documented_function_with_the_arguments_of_its_flags(name: str) -> None:
    function = getattr(pipeline, name.replace("-", "_"))
    names = [field.name for field in fields(loaded(name).config)]
    assert list(inspect.signature(function).parameters) == names
    documentation = inspect.getdoc(function) or ""
    assert all(f"    {argument}: " in documentation for argument in names)
    assert "Returns:" in documentation
    assert "Raises:" in documentation


def test_parts_are_there_under_their_names() -> None:
    from pipeline import crf, masks, models

    assert (crf.__name__, masks.__name__, models.__name__) == (
        "pipeline.refine.crf",
        "pipeline.masks",
        "pipeline.models",
    )
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pipeline.nothing


def test_they_return_what_the_commands_print(output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls: dict[str, dict[str, Any]] = {
        "compare": {"output_a": output, "output_b": output, "max_drift": 0.1},
        "report": {"output": output, "to": f"{tmp_path}/page.html"},
        "select": {"output": output, "count": 1, "by": "uncertainty", "to": f"{tmp_path}/list.csv"},
    }
    for name, values in calls.items():
        result = getattr(pipeline, name)(**values)
        words = [
            word
            for flag, value in values.items()
            if flag not in loaded(name).positional
            for word in (f"--{flag}", str(value))
        ]
        loaded(name).main([*(values[flag] for flag in loaded(name).positional), *words])
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == json.loads(result.to_json())
    assert pipeline.verify(output=output).problems == ()


def test_what_cannot_be_used_is_an_error_and_ends_no_process(output: str) -> None:
    for values, message in (
        ({}, "output"),
        ({"output": output, "county": 1}, "county"),
        ({"output": output, "count": "x", "by": "uncertainty", "to": "a.csv"}, "count"),
        ({"output": output, "count": 0, "by": "uncertainty", "to": "a.csv"}, "count is 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            pipeline.select(**values)
