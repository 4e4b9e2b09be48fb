"""A job whose messages nobody takes ends as it would with a reader: by its own exit code, and without a traceback."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.commands import program
from pipeline.runtime import progress
from pipeline.runtime.console import is_interrupt, tell
from tests.helpers.pictures import jpeg, photo

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys; from pipeline.commands.program import main; sys.exit(main())"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    storage.put_whole(f"{folder}/a.jpg", jpeg(photo(0, 40, 56)))
    return folder


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["segment", "--input={source}", "--output={source}-out", "--model=scenes", "--dry-run"], 0),
        (["segment", "--inptu=in"], 2),
        (["verify", "{source}"], 2),
        (["--help"], 0),
        (["segment", "--help"], 0),
        (["sgment"], 2),
    ],
)
@pytest.mark.parametrize("streams", ["2>&1 | true", "> /dev/full 2>&1", ">&- 2>&-", "2>&-"])
def test_the_exit_code_is_that_of_the_job(words: list[str], code: int, streams: str, source: Path) -> None:
    command = ["bash", "-c", f'"$@" {streams}; exit ${{PIPESTATUS[0]}}', "bash", sys.executable, "-c", PROGRAM]
    given = [word.format(source=source) for word in words]
    done = subprocess.run([*command, *given], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == code
    assert done.stderr == ""


class Gone(io.StringIO):
    """A stream whose reader has gone away."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stream", [None, Gone(), os.fdopen(os.dup(2), "w")])
def test_progress_that_nobody_sees_ends_no_run(stream: io.TextIOBase | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    monkeypatch.setattr(sys, "stderr", stream)
    if stream is not None and not isinstance(stream, Gone):
        stream.close()
    with progress.ProgressBar(4) as shown:
        shown.show(4, 1)
    progress.say("said")


def test_what_is_told_comes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    tell("a", sys.stdout)
    tell("b", sys.stderr)
    assert capsys.readouterr() == ("a\n", "b\n")


def test_ctrl_c_while_a_class_is_made_is_one() -> None:
    class Slow:
        def __set_name__(self, *_: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises((RuntimeError, KeyboardInterrupt)) as stopped:
        type("Made", (), {"slow": Slow()})
    assert is_interrupt(stopped.value)
    assert not is_interrupt(RuntimeError("of another kind"))


def test_ctrl_c_while_a_command_is_loaded_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: str) -> None:
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()

    monkeypatch.setattr(program, "loaded", interrupted)
    assert program.main(["segment"]) == 1
    assert capsys.readouterr().err == "deeplab-buckets: interrupted\n"
