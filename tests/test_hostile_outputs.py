"""No flag of the jobs that look at an output, and nothing that lies there, ends one of them in a traceback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import storage
from pipeline.commands.command import Command
from pipeline.commands.compare import command as compare
from pipeline.commands.export import command as export
from pipeline.commands.report import command as report
from pipeline.commands.select import command as select_images
from pipeline.exports.export import ExportConfig
from pipeline.exports.selection import SelectConfig
from pipeline.reports.compare import CompareConfig
from pipeline.reports.report import ReportConfig
from tests.helpers.hostile import CONTENTS, EVERYWHERE, ODD, Job, flags_of, kept_parser, told
from tests.helpers.outputs import blocks, failure, note, put_rows, row
from tests.helpers.pictures import jpeg, photo

JOBS: dict[str, tuple[Job, Any, tuple[str, ...]]] = {
    "report": (report.main, ReportConfig, ("out",)),
    "export": (export.main, ExportConfig, ("out", "--to=coco", "--destination=to")),
    "compare": (compare.main, CompareConfig, ("out", "out", "--to=page.html")),
    "select_images": (select_images.main, SelectConfig, ("out", "--count=1", "--by=rare-class", "--to=list.csv")),
}
POSITIONAL = ("output", "output_a", "output_b")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output of two runs, with names of the kind that is to be feared."""
    for run in (1, 2):
        info = note(run=run, night=run, input=f"{tmp_path}/in", classes=("<a>", "b\\", "{{c}}"))
        key = f"{run}/'\"<x>.jpg"
        storage.put_whole(f"{tmp_path}/in/{key}", jpeg(photo(run)))
        put_rows(f"{tmp_path}/out", info, [row(key, blocks(run), info, jpeg(photo(run)))], [failure("c", info)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Command, "parser", kept_parser)
    return tmp_path


def all_flags() -> Iterator[tuple[str, str]]:
    for name, (_, config, _) in JOBS.items():
        yield from ((name, flag) for flag, _ in flags_of(config) if flag not in (*POSITIONAL, "storage_timeout"))


@pytest.mark.parametrize(("name", "flag"), list(all_flags()))
def test_no_value_of_a_flag_ends_in_a_traceback(name: str, flag: str) -> None:
    job, _, others = JOBS[name]
    for value in EVERYWHERE:
        told(job, *others, f"--{flag}={value}")


@pytest.mark.parametrize(("name", "flag"), [("report", "to"), ("export", "classes"), ("compare", "run_a")])
def test_no_odd_value_ends_in_a_traceback(name: str, flag: str) -> None:
    job, _, others = JOBS[name]
    for value in ODD:
        told(job, *others, f"--{flag}={value}")


@pytest.mark.parametrize("name", JOBS)
def test_no_output_ends_in_a_traceback(name: str) -> None:
    job, _, others = JOBS[name]
    for value in ("", "\0", "\udc80", "s3://", "https://[", "/dev/null", "x" * 5000, "nofs::x://y", "in", "nothing"):
        told(job, value, *others[1:])


@pytest.mark.parametrize("content", CONTENTS)
def test_no_file_that_lies_there_ends_in_a_traceback(content: str, place: Path) -> None:
    run = note(run=2).run_id
    for path in (f"out/_runs/{run}/summary.json", f"out/_runs/{run}/config.yaml", "to/_export/progress.json", "k.csv"):
        storage.put_whole(f"{place}/{path}", CONTENTS[content])
    assert told(report.main, "out") == ""
    for suffix in ("csv", "txt", "parquet"):
        storage.put_whole(f"{place}/k.{suffix}", CONTENTS[content])
        told(export.main, "out", "--to=png", "--destination=png", f"--keys=k.{suffix}")
    told(export.main, *JOBS["export"][2])
    storage.put_whole(f"{place}/in/1/'\"<x>.jpg", CONTENTS[content])
    assert told(report.main, "out") == ""
    storage.put_whole(f"{place}/out/masks/20260102T030409-aaaaaa-00000.parquet", CONTENTS[content])
    for job, _, others in JOBS.values():
        assert "cannot read the masks" in told(job, *others)
