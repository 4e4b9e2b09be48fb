"""What an adapter says where its framework is missing or broken."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import WeightsError
from pipeline.models.adapters import ADAPTERS


def test_a_framework_that_is_missing_or_broken_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = replace(ADAPTERS["smp"], package="broken_framework")
    with pytest.raises(WeightsError, match=r"broken_framework is not installed: pip install 'deeplab-buckets\[smp\]'"):
        adapter.open("net.pth")
    (tmp_path / "broken_framework.py").write_text("raise RuntimeError('operator nms\\ndoes not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match=r"flags, cannot be imported: operator nms does not exist$"):
        adapter.open("net.pth")
