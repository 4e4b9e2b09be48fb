"""Exports read back by tools that are heavy to install, each in an environment of its own: `make exports`."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pipeline import storage
from pipeline.exports.export import ExportConfig, export
from pipeline.storage import Uri
from tests.helpers.outputs import blocks, note, put_rows, row
from tests.helpers.pictures import jpeg, photo

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "label-studio": ["label-studio-sdk==2.1.2"],
    "fiftyone": ["fiftyone==1.22.1"],
    "png": ["datumaro==1.13.12"],
    "coco-panoptic": ["datumaro==1.13.12"],
    "huggingface": ["datasets==3.6.0", "pillow"],
}

pytestmark = pytest.mark.long


def interpreter(tool: str) -> str:
    """Give a Python that has the tool's packages; made once, in .tools/."""
    folder = ROOT / ".tools" / PACKAGES[tool][0]
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin/pip"), "install", "--quiet", *PACKAGES[tool]], check=True)
    return str(folder / "bin/python")


@pytest.mark.parametrize("tool", PACKAGES)
def test_the_tool_reads_the_masks_pixel_for_pixel(tool: str, tmp_path: Path) -> None:
    info = note(input=f"{tmp_path}/in")
    rows = []
    for n in range(5):
        key, mask, picture = f"{'deep/' * n}{n}", blocks(n), jpeg(photo(n))
        storage.put_whole(f"{tmp_path}/in/{key}.jpg", picture)
        rows.append(row(key, mask, info, picture) | {"source": f"{tmp_path}/in/{key}.jpg"})
        (tmp_path / "masks" / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"masks/{key}.png")
    put_rows(f"{tmp_path}/out", info, rows)
    export(ExportConfig(output=Uri(f"{tmp_path}/out"), to=tool, destination=Uri(f"{tmp_path}/to")))
    script = [str(Path(__file__).with_name("read_with_tools.py")), tool, f"{tmp_path}/to", f"{tmp_path}/masks"]
    done = subprocess.run([interpreter(tool), *script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
