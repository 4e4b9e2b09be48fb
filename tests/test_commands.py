"""The commands of `deeplab-buckets`: their help, their flags, and that jobs/*.py are the same."""

import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from pipeline.cli import parse, read
from pipeline.commands import COMMANDS, program
from pipeline.commands.program import loaded
from pipeline.errors import ConfigError

ROOT = Path(__file__).parents[1]
SCRIPTS = {"segment": "segment_bucket", "select": "select_images", "verify": "verify_output"}
HEAVY = ("torch", "ray", "matplotlib", "s3fs", "transformers", "pydensecrf")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_short_and_has_every_flag(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    with pytest.raises(SystemExit) as end:
        program.main([name, "--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    usage, _, description, *_ = out.splitlines()
    assert usage.startswith(f"usage: deeplab-buckets {name} ")
    for field in fields(loaded(name).config):
        if field.default is field.default_factory is MISSING:
            assert field.name.upper() in usage or f"--{field.name.replace('_', '-')} " in usage
    assert description == COMMANDS[name]
    parser = loaded(name).parser()
    flags = [action.dest for action in parser._actions if "." not in action.dest and action.option_strings]
    for flag in flags:
        if not any(other.dest.startswith(f"{flag}.") for other in parser._actions):
            assert f"--{flag.replace('_', '-')}" in out
    assert len(out.splitlines()) <= 90
    assert max(map(len, out.splitlines())) <= 110


@pytest.mark.parametrize("name", COMMANDS)
def test_a_script_for_ray_is_the_same_command(name: str) -> None:
    module = name.replace("-", "_")
    script = import_module(f"jobs.{SCRIPTS.get(module, module)}")
    assert script.command is loaded(name)


def test_every_script_is_of_a_command() -> None:
    names = {SCRIPTS.get(name, name.replace("-", "_")) for name in COMMANDS}
    assert names == {path.stem for path in (ROOT / "jobs").glob("*.py")}


def test_help_version_and_completion_load_nothing_heavy() -> None:
    check = (
        "import sys, contextlib\n"
        "from pipeline.commands import COMMANDS, program\n"
        "for words in (['--help'], ['--version'], *([name, '--help'] for name in COMMANDS)):\n"
        "    with contextlib.suppress(SystemExit): program.main(words)\n"
        f"print(' '.join(set({HEAVY}) & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "\n"
    assert re.search(r"^deeplab-buckets \d+\.\d+\.\d+$", done.stdout, re.MULTILINE)


def test_without_a_command_or_with_an_unknown_one_it_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 2
    assert all(f"  {name} " in capsys.readouterr().out for name in ("segment",))
    assert program.main(["sgment"]) == 2
    assert capsys.readouterr().err.startswith("deeplab-buckets: there is no command 'sgment'; choose from: segment, ")


def segmenting(*words: str) -> object:
    command = loaded("segment")
    return read(command.parser(), command.config, ["--input=in", "--output", "out", *words])


def test_dashes_and_underscores_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert segmenting("--error-budget=0.5", "--dry-run") == segmenting("--error_budget=0.5", "--dry_run")
    assert segmenting("--inference.no-flip", "--no-dry-run") == segmenting()
    (tmp_path / "run.yaml").write_text("error-budget: 0.5\nrefine: {params: {bilateral-xy: 20}}\n")
    by_flags = segmenting("--error-budget=0.5", "--refine.params.bilateral-xy=20")
    assert segmenting(f"--config={tmp_path}/run.yaml") == by_flags
    (tmp_path / "run.yaml").write_text("error-budgets: 0.5\n")
    with pytest.raises(SystemExit):
        segmenting(f"--config={tmp_path}/run.yaml")
    assert "'error_budgets' is not accepted" in capsys.readouterr().err


def test_a_file_is_no_settings(tmp_path: Path) -> None:
    message = "refine.params is 'crf.yaml', and no settings; give these themselves, .* or a file by --config"
    (tmp_path / "run.yaml").write_text("refine: {params: crf.yaml}\n")
    for word in ("--refine.params=crf.yaml", f"--config={tmp_path}/run.yaml"):
        with pytest.raises(ConfigError, match=message):
            segmenting(word)
    assert segmenting("--refine.params={bilateral_xy: 67}") == segmenting("--refine.params.bilateral-xy=67")
    assert segmenting("--refine.params=null") == segmenting()


@pytest.mark.parametrize(
    "content", ["", "# nothing yet\n", "null\n", "refine:\n", "refine:\nworkers: null\nsmp:\n", "{}"]
)
def test_a_file_or_a_section_with_nothing_in_it_says_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(content)
    given = segmenting("--refine.prune=0.5", f"--config={tmp_path}/run.yaml", "--workers.cpus=2")
    assert given == segmenting("--refine.prune=0.5", "--workers.cpus=2")


@pytest.mark.parametrize("value", ["3", "[]", "[1]", "true"])
@pytest.mark.parametrize(
    ("name", "section"), [("segment", "inference"), ("segment", "workers"), ("train-scenes", "recipe")]
)
def test_a_section_that_is_something_else_is_refused_by_its_name(
    name: str, section: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(f"output: out\n{section}: {value}\n")
    assert loaded(name).main([f"--config={tmp_path}/run.yaml"]) == 2
    assert f"{section} is {yaml.safe_load(value)!r}, and no settings; give" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "kind"), [("- limit\n", "list"), ("limit\n", "str")])
def test_a_file_of_something_else_than_flags_is_refused(content: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(content)
    with pytest.raises(ConfigError, match=f"a configuration holds a {kind}, and no flags; write each on a line"):
        segmenting(f"--config={tmp_path}/run.yaml")


@pytest.mark.parametrize(
    ("words", "content"),
    [
        (["--inptu", "{uri}"], ""),
        (["--inptu={uri}"], ""),
        (["--limit={uri}"], ""),
        (["--refine.params", "{uri}"], ""),
        (["{uri}"], ""),
        ([], "limit: {uri}"),
        ([], "inference: ['{uri}']"),
        ([], "smp: {{architecture: ['{uri}']}}"),
        ([], "refine: {{params: ['{uri}', 3]}}"),
    ],
)
@pytest.mark.parametrize("uri", ["https://h/x?X-Amz-Signature=SECRET&b=SECRET", "s3://SECRET:SECRET@b/c"])
def test_what_is_wrong_is_said_without_the_credentials_in_it(
    words: list[str], content: str, uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(content.format(uri=uri))
    given = ["--input=in", "--output=out", f"--config={tmp_path}/run.yaml", *(word.format(uri=uri) for word in words)]
    with suppress(SystemExit):
        assert loaded("segment").main(given) == 2
    err = capsys.readouterr().err
    assert "***" in err
    assert "SECRET" not in err


def test_a_switch_is_on_or_off_without_a_value(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("retry_errors: true\ninference: {flip: true}\n")
    given = segmenting(f"--config={tmp_path}/run.yaml", "--no-retry-errors")
    assert (given.retry_errors, given.inference.flip) == (False, True)
    for words in (("--retry-errors=true",), ("--retry-errors", "false"), ("--no-retry-errors=true",)):
        with pytest.raises(ConfigError, match="--retry-errors takes no value; write --retry-errors or --no-retry-err"):
            segmenting(*words)


def test_a_required_flag_that_is_missing_is_named_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(loaded("segment").config, "", ["--input=in"])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert "--input URI --output URI [flags]" in err
    assert "output" in err.splitlines()[-1]


def completed(line: str) -> set[str]:
    """What bash is offered behind a line, asked as argcomplete's function in bash does."""
    asking = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    command = [sys.executable, "-c", "from pipeline.commands.program import main; main()"]
    # argcomplete writes what it finds to file descriptor 8
    shell = ["bash", "-c", f'exec 8>&{write_end}; exec "$@"', "bash", *command]
    subprocess.run(shell, cwd=ROOT, env=os.environ | asking, pass_fds=[write_end], check=True)
    os.close(write_end)
    with os.fdopen(read_end) as answer:
        return {word.strip() for word in answer.read().split("\n")}


def test_a_shell_completes_commands_flags_and_their_values() -> None:
    pytest.importorskip("argcomplete")
    assert completed("deeplab-buckets se") == {"segment", "select", "search-crf"}
    assert {"--refine.backend", "--refine.device"} <= completed("deeplab-buckets segment --refine.")
    assert completed("deeplab-buckets segment --refine.backend n") == {"native", "none"}
    assert completed("deeplab-buckets segment --inference.no-f") == {"--inference.no-flip"}
