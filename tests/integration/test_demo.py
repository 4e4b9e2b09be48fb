"""The demo, as `make demo` runs it, on fewer scenes."""

import re
from pathlib import Path

import pytest
from PIL import Image

from pipeline import masks
from pipeline.commands.demo import command as demo

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


def test_it_shows_what_the_crf_gains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--output", str(tmp_path), "--scenes=3"]) == 0
    out = capsys.readouterr().out
    before, after = (float(found) for found in re.findall(r"mean IoU, .*: ([0-9.]+)", out))
    assert 40 < before < after < 100
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.height > sheet.width / 4
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/webp") == 3
    assert '"before": "network"' in page
    assert len(list(masks.read(f"{tmp_path}/refined/masks"))) == 3
