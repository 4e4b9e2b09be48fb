"""infra/docker/Dockerfile, which no engine builds here: linted, parsed, and its compiling step done outside it."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "infra/docker/Dockerfile"
TOOLS = Path(sys.executable).parent  # where pip and hadolint are installed too


class Stage(NamedTuple):
    base: str
    steps: list[tuple[str, str]]

    def values(self, instruction: str) -> list[str]:
        return [value for name, value in self.steps if name == instruction]

    def copies(self) -> list[list[str]]:
        """Sources and destination of what is copied from the checkout."""
        return [value.split() for value in self.values("COPY") if not value.startswith("--from")]


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    found: list[Stage] = []
    with DOCKERFILE.open("rb") as file:
        for step in DockerfileParser(fileobj=file).structure:
            if step["instruction"] == "FROM":
                found.append(Stage(step["value"].split()[0], []))
            elif step["instruction"] != "COMMENT":
                found[-1].steps.append((step["instruction"], step["value"]))
    return found


def lay(copies: list[list[str]], target: Path) -> None:
    """Do what COPY does, below `target`."""
    for *sources, destination in copies:
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target / destination, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (target / destination).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, target / destination)


def test_linter_finds_nothing_to_warn_of() -> None:
    lint = [TOOLS / "hadolint", "--no-color", "--failure-threshold", "warning"]
    bad = subprocess.run([*lint, "-"], input="FROM python\n", capture_output=True, text=True)
    assert bad.returncode == 1
    assert "DL3006" in bad.stdout
    good = subprocess.run([*lint, DOCKERFILE], capture_output=True, text=True)
    assert good.returncode == 0, good.stdout


def test_both_stages_have_the_same_tagged_base_and_the_last_no_compiler_and_no_root(stages: list[Stage]) -> None:
    build, final = stages
    assert re.fullmatch(r"python:3\.11-slim-\w+", build.base)
    assert final.base == build.base
    assert "g++" in str(build.values("RUN"))
    assert "g++" not in str(final.values("RUN"))
    assert "useradd --create-home --uid 1000 --shell /bin/bash ray" in str(final.values("RUN"))
    assert final.steps[-1] == ("USER", "1000")


def test_every_pip_install_is_held_by_the_lock(stages: list[Stage]) -> None:
    installs = re.findall(r"pip install[^;&]*", " ".join(stages[0].values("RUN")))
    assert len(installs) == 2
    assert all("--constraint requirements.lock" in install for install in installs)
    assert "requirements.lock" in (ROOT / "Makefile").read_text()


def test_variant_is_told_apart_and_another_word_refused(stages: list[Stage], tmp_path: Path) -> None:
    """The step is run by a shell whose `pip` only says what it was asked for."""
    (step,) = (value for value in stages[0].values("RUN") if "$VARIANT" in value)
    assert stages[0].values("ARG") == ["VARIANT=cpu"]
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "pip").chmod(0o755)

    def run(variant: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "VARIANT": variant}
        return subprocess.run(["/bin/sh", "-c", step], env=environment, capture_output=True, text=True)

    assert run("cpu").stdout.endswith("/whl/cpu torch\n")
    assert (run("cuda").returncode, run("cuda").stdout) == (0, "")
    assert run("gpu").returncode == 1
    assert "VARIANT is cpu or cuda, not 'gpu'" in run("gpu").stderr


def test_what_is_copied_exists_and_is_not_ignored(stages: list[Stage]) -> None:
    sources = {source for stage in stages for *sources, _ in stage.copies() for source in sources}
    assert all((ROOT / source).exists() for source in sources)
    ignored, *kept, caches = (ROOT / ".dockerignore").read_text().split()
    assert (ignored, caches) == ("*", "**/__pycache__")
    assert {line.removeprefix("!") for line in kept} == sources


@pytest.mark.long
def test_what_is_copied_suffices_to_compile_the_wheel_and_to_start_a_job(stages: list[Stage], tmp_path: Path) -> None:
    """pip builds in an environment of its own with the build requirements alone, as it does in the build stage."""
    build, final = stages
    source, installed, home = (tmp_path / name for name in ("source", "installed", "home"))
    lay(build.copies(), source)
    (wheel_step,) = (value for value in build.values("RUN") if value.startswith("pip wheel"))
    path = f"{TOOLS}:{os.environ['PATH']}"
    subprocess.run(["/bin/sh", "-c", f"{wheel_step} --quiet"], cwd=source, env=os.environ | {"PATH": path}, check=True)

    (wheel,) = (source / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    assert list(installed.glob("dense_crf_core*.so"))
    weights = {file.name for file in (ROOT / "pipeline/models/weights").iterdir()}
    assert {file.name for file in (installed / "pipeline/models/weights").iterdir()} == weights

    lay(final.copies(), home)
    environment = os.environ | {"PYTHONPATH": str(installed)}

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=True).stdout

    assert "--input" in python("jobs/segment_bucket.py", "--help")
    origins = "import pipeline, dense_crf_core; print(pipeline.__file__, dense_crf_core.__file__)"
    assert all(origin.startswith(str(installed)) for origin in python("-c", origins).split())
