"""Give the site the two documents that lie above docs/: README.md is its first page, CONTRIBUTING.md another.

A hook of mkdocs.yml. Links between them and docs/ are put right for their new places.
"""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
LICENCE = "https://www.apache.org/licenses/LICENSE-2.0"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for name, place in PAGES.items():
        text = (ROOT / name).read_text().replace("](docs/", "](").replace("](LICENSE)", f"]({LICENCE})")
        files.append(File.generated(config, place, content=_moved(text)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links of the documents in docs/ to the pages."""
    return _moved(markdown, above="../" * (page.file.src_uri.count("/") + 1))


def _moved(text: str, above: str = "") -> str:
    for name, place in PAGES.items():
        text = text.replace(f"]({above}{name}", f"]({above.removesuffix('../')}{place}")
    return text
