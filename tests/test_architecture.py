"""The house rules that a compiler would not keep: arrows go down only, and Ray and torch stay in their rooms."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "errors": 0,
    "storage": 1,
    "images": 2,
    "scores": 2,
    "masks": 2,
    "commandline": 2,
    "models": 3,
    "crf": 3,
    "scenes": 3,
    "batch": 4,
    "training": 4,
    "evaluation": 4,
    "report": 4,
    "jobs": 5,
}
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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_go_down_only(path: Path) -> None:
    if path == ROOT / "pipeline" / "__init__.py":
        assert list(imported(path)) == []
        return
    here = room(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "pipeline":
            assert parts[1] == here or FLOORS[parts[1]] <= FLOORS[here], f"{path.name} imports {name}, a higher floor"
        if parts[0] == "ray":
            assert here in ("batch", "evaluation", "jobs") or path.parent.name == "distributed", (
                f"{path.name} imports {name}"
            )


@pytest.mark.parametrize("module", ["refiner", "fetch", "listing"])
def test_what_runs_on_many_cpus_does_not_load_torch(module: str) -> None:
    check = f"import sys, pipeline.batch.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0
