"""Plain lines where stderr is no terminal."""

import pytest

from pipeline.runtime import progress


@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_the_last_line_is_told_once(
    seconds: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", seconds)
    with progress.ProgressBar(4) as shown:
        shown.show(4, 1)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("4 of 4 images, 1 failed, ")
