"""Plain lines where stderr is no terminal, and blocks that are not waited for too long."""

import pytest

from pipeline.batch.run import _block_bytes
from pipeline.runtime import progress
from pipeline.runtime.plan import Plan

MIB = 1024**2


@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_the_last_line_is_told_once(
    seconds: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", seconds)
    with progress.ProgressBar(4) as shown:
        shown.show(4, 1)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("4 of 4 images, 1 failed, ")


@pytest.mark.parametrize(
    ("listed", "batch", "wanted"),
    [(10, 32, MIB // 4), (640, 32, MIB), (10_000, 32, 3_355_440), (10_000, 256, 16_384_000)],
)
def test_a_block_has_few_images_where_each_takes_long(listed: int, batch: int, wanted: int) -> None:
    """Of a tenth of a MiB each: a 64th of the input, but no more than a segmenter takes at once."""
    plan = Plan(
        segmenters=1,
        most_segmenters=1,
        segmenter_cpus=1,
        segmenter_gpus=0,
        segmenter_batch=batch,
        gpus_refine=False,
        refiners=1,
        most_refiners=1,
        refiner_cpus=1,
        fetchers=1,
    )
    assert _block_bytes(listed, MIB // 10, plan) == pytest.approx(wanted, rel=1e-4)
