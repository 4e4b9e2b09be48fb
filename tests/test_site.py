"""The documents as a site: every link leads somewhere, and each job's function has its page."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline

ROOT = Path(__file__).parents[1]


@pytest.mark.long
def test_it_builds_without_a_broken_link_and_asks_nothing_of_a_network(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "python.html").read_text()
    jobs = [name for name in pipeline.__all__ if name not in ("crf", "masks", "models", "look")]
    assert [name for name in jobs if f'id="pipeline.commands.{name}.{name}"' not in page] == []
    assert "retry_errors" in page
    for path in tmp_path.rglob("*.html"):
        assert not any(f'{where}="http' in path.read_text() for where in ("src", "stylesheet"))


def test_every_document_has_its_place_in_the_site() -> None:
    named = (ROOT / "mkdocs.yml").read_text()
    documents = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(document for document in documents if document not in named) == []
