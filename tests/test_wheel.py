"""The wheel: what is in it, and that it works where there is no checkout."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path
from sysconfig import get_path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git has: a folder `build` of an earlier time would end in it."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", str(built), str(source)], check=True)
    (found,) = built.iterdir()
    return found


def test_it_holds_the_package_its_weights_pages_and_recipes_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
        (scripts,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    for folder in ("pipeline/models/weights", "pipeline/reports/templates"):
        shipped = {f"{folder}/{path.name}" for path in (ROOT / folder).iterdir()}
        assert shipped <= set(names)
    recipes = {name.rpartition("/")[2] for name in names if "/share/deeplab-buckets/recipes/" in name}
    assert recipes == {path.name for path in (ROOT / "recipes").glob("*.yaml")}
    assert [name for name in names if name.startswith("dense_crf_core.")]
    assert {name.partition("/")[0] for name in names if name.endswith(".py")} == {"pipeline"}
    assert not [name for name in names if name.endswith((".cpp", ".hpp", ".inl"))]
    assert "deeplab-buckets = pipeline.commands.program:main" in scripts
    assert set(Parser().parsestr(metadata)["Requires-Python"].split(",")) == {">=3.11", "<3.14"}


def test_installed_it_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(pip, check=True)
    packages = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    # what it depends on is taken from the environment that runs the tests, to which the wheel comes first
    (Path(packages.strip()) / "dependencies.pth").write_text(get_path("purelib"))
    apart = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def said(*words: str) -> str:
        command = [str(tmp_path / "venv/bin/deeplab-buckets"), *words]
        return subprocess.run(command, cwd=tmp_path, env=apart, check=True, capture_output=True, text=True).stdout

    assert said("--version").startswith("deeplab-buckets ")
    listed = [json.loads(line) for line in said("models", "--json").splitlines()]
    places = {one["name"]: one["place"] for one in listed if one["kind"] == "built in"}
    assert places.keys() == {"scenes", "street"}
    assert all(place.startswith(str(tmp_path)) for place in places.values())
    assert "--input URI" in said("segment", "--help")
