"""The notebook, run from beginning to end, as a person runs it."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "tour.ipynb"


def test_it_is_kept_without_results() -> None:
    """Those would be of another machine, and change with every run."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.long
def test_every_cell_runs_and_shows_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}}).execute()
    segmented, looked, asked, exported, refined = [cell for cell in notebook.cells if cell.cell_type == "code"][1:]
    assert result(segmented)["text/plain"].startswith("(8, 0, ")
    assert {"image/png", "text/html"} <= result(looked).keys()
    assert "confidence" in result(asked)["text/plain"]
    assert result(exported)["text/plain"].startswith("(8, ")
    assert "labelmap.txt" in result(exported)["text/plain"]
    assert {"image/png", "text/html"} <= result(refined).keys()


def result(cell: Any) -> dict[str, Any]:
    """What the last line of a cell gives, by type."""
    (shown,) = (output for output in cell.outputs if output.output_type == "execute_result")
    data: dict[str, Any] = shown.data
    return data
