"""The house rules that a compiler would not keep: arrows go down only, and Ray and torch stay in their rooms."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FROM_THE_TOP_DOWN = (
    "jobs",
    "commands",
    "cli",
    "evaluation",
    "training",
    "batch",
    "reports",
    "exports",
    "runtime",
    "data",
    "models",
    "refine",
    "scenes",
    "masks",
    "metrics",
    "logits",
    "geometry",
    "images",
    "storage",
    "labels",
    "numbers",
    "text",
    "errors",
)
FLOORS = {room: floor for floor, room in enumerate(reversed(FROM_THE_TOP_DOWN))}
STRANGERS = {"evaluation": {"training"}, "training": {"batch"}}
"""Rooms below that a room has no business with: what two jobs share lies under both."""

WITH_RAY = {"evaluation", "batch", "runtime"}
MODULES = sorted(path for folder in ("pipeline", "jobs") for path in (ROOT / folder).rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "jobs" if parts[0] == "jobs" else parts[1]


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a module imports, `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_has_a_floor_of_its_own() -> None:
    rooms = {path.stem for path in (ROOT / "pipeline").iterdir() if not path.name.startswith("__")}
    assert rooms | {"jobs"} == set(FROM_THE_TOP_DOWN)
    assert len(FLOORS) == len(FROM_THE_TOP_DOWN)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_go_down_only(path: Path) -> None:
    if path == ROOT / "pipeline" / "__init__.py":  # it names what is above it, and loads what is asked for
        return
    here = room(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "pipeline" and parts[1] != here:
            assert FLOORS[parts[1]] < FLOORS[here], f"{path.name} imports {name}, a higher floor"
            assert parts[1] not in STRANGERS.get(here, ()), f"{path.name} imports {name}, another job"
        if parts[0] == "ray":
            assert here in WITH_RAY or path.parent.name == "distributed", f"{path.name} imports {name}"


CLIENTS = ("s3fs", "botocore", "aiohttp")
"""Of storages; they take long to load, and many a run needs none."""


@pytest.mark.parametrize(
    ("module", "slow"),
    [
        ("masks", ("torch", "ray", *CLIENTS)),
        ("models", ("torch", "ray", *CLIENTS)),
        ("models.loading", ("ray", *CLIENTS)),
        ("data.labelled.pairs", ("torch", *CLIENTS)),
        ("refine.crf.native", ("torch", *CLIENTS)),
        ("batch.preflight", ("torch", "ray.data", *CLIENTS)),
        ("batch.run", ("torch", "ray.data", *CLIENTS)),
        ("batch.fetch", ("torch", *CLIENTS)),
        ("batch.segment_stage", ("ray", *CLIENTS)),
        ("batch.refine_stage", ("torch", "ray", *CLIENTS)),
        ("batch.listing", ("torch", "ray.data", *CLIENTS)),
        ("batch.sink", ("torch", "ray.data", *CLIENTS)),
        ("batch.remote_tracker", ("torch", "ray.data", *CLIENTS)),
    ],
)
def test_what_runs_in_many_processes_loads_only_what_it_uses(module: str, slow: tuple[str, ...]) -> None:
    check = f"import sys, pipeline.{module}; sys.exit(' '.join(set({slow}) & sys.modules.keys()) or None)"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_alone_loads_nothing() -> None:
    ours_or_heavy = "[name for name in sys.modules if name.startswith(('pipeline.', 'numpy', 'torch', 'ray', 'yaml'))]"
    check = f"import sys, pipeline; sys.exit(' '.join({ours_or_heavy}) or None)"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
