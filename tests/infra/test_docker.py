"""infra/docker/Dockerfile, which no engine builds here: linted, parsed, and its compiling step done outside it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import NamedTuple

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "infra/docker/Dockerfile"
TOOLS = Path(sys.executable).parent  # where pip and hadolint are installed too


class Stage(NamedTuple):
    base: str
    name: str
    steps: list[tuple[str, str]]

    def values(self, instruction: str) -> list[str]:
        return [value for name, value in self.steps if name == instruction]

    def copies(self) -> list[list[str]]:
        """Sources and destination of what is copied from the checkout."""
        return [value.split() for value in self.values("COPY") if not value.startswith("--from")]


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    stages: list[Stage] = []
    with DOCKERFILE.open("rb") as file:
        for step in DockerfileParser(fileobj=file).structure:
            if step["instruction"] == "FROM":
                base, _, name = step["value"].partition(" AS ")
                stages.append(Stage(base, name, []))
            elif step["instruction"] != "COMMENT" and stages:
                stages[-1].steps.append((step["instruction"], step["value"]))
    return stages


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


def test_both_stages_have_the_same_tagged_base_and_the_cpus_image_no_compiler_and_no_root(stages: list[Stage]) -> None:
    build, final, *_ = stages
    assert re.fullmatch(r"python:3\.11-slim-\w+", build.base)
    assert final.base == build.base
    assert "g++" in str(build.values("RUN"))
    assert not re.search(r"g\+\+|gcc", str(final.values("RUN")))
    assert "useradd --create-home --uid 1000 --shell /bin/bash ray" in str(final.values("RUN"))
    assert final.steps[-1] == ("USER", "1000")


def test_every_pip_install_is_held_by_the_lock_and_so_is_what_the_wheel_is_built_with(stages: list[Stage]) -> None:
    steps = " ".join(stages[0].values("RUN"))
    installs = re.findall(r"pip install[^;&]*", steps)
    assert len(installs) == 2
    assert all("--constraint requirements.lock" in install for install in installs)
    for variable in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"):
        assert re.search(rf"\b{variable}=requirements.lock [^;&]*pip wheel", steps)
    assert "requirements.lock" in (ROOT / "Makefile").read_text()


def test_the_lock_has_what_only_the_image_needs() -> None:
    """The packages that the wheel is built with, and those by which Ray's head starts workers on AWS."""
    lock = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split())
    built_with = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {re.split(r"\W", requirement)[0] for requirement in built_with} <= lock.keys()
    assert {"boto3", "s3transfer"} <= lock.keys()


def test_cpus_torch_is_that_of_the_cpu_variant(stages: list[Stage], tmp_path: Path) -> None:
    """The step is run by a shell whose `pip` only says what it was asked for."""
    (step,) = (value for value in stages[0].values("RUN") if "$VARIANT" in value)
    assert "VARIANT" in stages[0].values("ARG")
    assert "\nARG VARIANT=cpu\n\nFROM" in DOCKERFILE.read_text()
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "pip").chmod(0o755)

    def run(variant: str) -> str:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "VARIANT": variant}
        return subprocess.check_output(["/bin/sh", "-c", step], env=environment, text=True)

    assert run("cpu").endswith("/whl/cpu torch\n")
    assert run("cuda") == ""


def test_cuda_image_alone_asks_nvidias_runtime_for_gpus(stages: list[Stage]) -> None:
    _, cpu, cuda, chosen = stages
    assert (cpu.name, cuda.name) == ("deeplab-cpu", "deeplab-cuda")
    assert (cuda.base, chosen.base) == (cpu.name, "deeplab-$VARIANT")
    assert "NVIDIA" not in str(cpu.steps)
    asked = {"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"}
    assert [set(value.split()) for value in cuda.values("ENV")] == [asked]
    assert not chosen.steps


def test_cuda_image_alone_has_the_compiler_that_triton_calls_and_ends_without_root(stages: list[Stage]) -> None:
    cuda = stages[2]
    root, install, user = (step for step in cuda.steps if step[0] != "ENV")
    assert (root, user) == (("USER", "root"), ("USER", "1000"))
    assert re.search(r"apt-get install --yes --no-install-recommends gcc libc6-dev ", install[1])


def test_packages_that_are_asked_for_are_installed_beside_the_wheel_and_held_by_the_lock(
    stages: list[Stage], tmp_path: Path
) -> None:
    (step,) = (value for value in stages[0].values("RUN") if "$PACKAGES" in value)
    assert 'PACKAGES=""' in stages[0].values("ARG")
    (tmp_path / "pip").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "pip").chmod(0o755)

    def installed(packages: str) -> list[str]:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PACKAGES": packages}
        words = subprocess.check_output(["/bin/sh", "-c", step], cwd=tmp_path, env=environment, text=True).splitlines()
        assert words[:4] == ["install", "--no-cache-dir", "--constraint", "requirements.lock"]
        return words[4:]

    assert installed("") == ["dist/*.whl", "boto3"]
    assert installed("deeplab-buckets[train,hf] gcsfs")[2:] == ["deeplab-buckets[train,hf]", "gcsfs"]


def test_a_training_of_the_documents_finds_its_recipe_in_the_working_directory(
    stages: list[Stage], tmp_path: Path
) -> None:
    lay(stages[1].copies(), tmp_path)
    named = re.findall(r"--config (recipes/\S+)", (ROOT / "README.md").read_text())
    assert named
    assert all((tmp_path / recipe).is_file() for recipe in named)


def test_what_is_copied_exists_and_is_not_ignored(stages: list[Stage]) -> None:
    sources = {source for stage in stages for *sources, _ in stage.copies() for source in sources}
    assert all((ROOT / source).exists() for source in sources)
    ignored, *kept, caches = (ROOT / ".dockerignore").read_text().split()
    assert (ignored, caches) == ("*", "**/__pycache__")
    assert {line.removeprefix("!") for line in kept} == sources


@pytest.mark.long
def test_what_is_copied_and_installed_suffices_to_start_a_job(stages: list[Stage], tmp_path: Path) -> None:
    """The build stage's steps, but for Debian's packages and the index of torch, in a Python that has nothing else."""
    build, final, *_ = stages
    source, fresh, home = (tmp_path / name for name in ("source", "fresh", "home"))
    lay(build.copies(), source)
    venv.create(fresh, with_pip=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment["PATH"] = f"{fresh}/bin:{environment['PATH']}"
    steps = [step for step in build.values("RUN") if "pip" in step and "$VARIANT" not in step]
    assert [re.findall(r"pip (\w+)", step) for step in steps] == [["wheel"], ["install"]]
    for step in steps:
        done = subprocess.run(["/bin/sh", "-c", step], cwd=source, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    lay(final.copies(), home)

    def python(*arguments: str) -> str:
        command = [f"{fresh}/bin/python", *arguments]
        return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=True).stdout

    assert "--input" in python("jobs/segment_bucket.py", "--help")
    origins = "import boto3, dense_crf_core, pipeline; print(dense_crf_core.__file__, pipeline.__file__)"
    core, package = map(Path, python("-c", origins).split())
    assert core.is_relative_to(fresh)
    assert package.is_relative_to(fresh)
    weights = {file.name for file in (ROOT / "pipeline/models/weights").iterdir()}
    assert {file.name for file in (package.parent / "models/weights").iterdir()} == weights
    lock = set((ROOT / "requirements.lock").read_text().split())
    installed = set(python("-m", "pip", "freeze", "--local", "--exclude", "deeplab-buckets").split())
    assert {line.partition("+")[0] for line in installed} <= lock
