"""The documents name what is there: links, files, folders and modules of this repository."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
ROOMS = "pipeline|jobs|benchmarks|tests|infra|recipes|docs|examples"


def missing(names: list[str], folder: Path) -> list[str]:
    return [name for name in names if not (folder / name).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_names_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert missing(links, document.parent) == []
    named = re.findall(rf"(?<![\w./-])(?:{ROOMS})(?:/[\w.-]+)+/?(?![\w*{{])", text)
    assert missing([name.rstrip("./") for name in named if name == name.lower()], ROOT) == []
    modules = re.findall(r"python -m ((?:benchmarks|tests)[\w.]+)", text)
    assert missing([module.replace(".", "/") + ".py" for module in modules], ROOT) == []
