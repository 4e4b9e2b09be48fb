"""The benchmarks over a handful of images: a table comes out, with every row, and its numbers make sense."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import listing
from benchmarks.scale_simulation import Costs, simulate
from benchmarks.voc_network import VocNetwork
from pipeline import storage
from pipeline.errors import ConfigError
from tests.helpers.labelled import put_camvid
from tests.helpers.pictures import jpeg, photo

ROOT = Path(__file__).parents[1]


def table(name: str, *flags: str) -> list[tuple[str, list[float]]]:
    """Run a benchmark as a person does; the first cell and the numbers of each row of its table."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return [
        (row[0], [float(cell) for cell in row[1:] if cell[:1] in "+-0123456789" and " " not in cell and cell])
        for row in cells
    ]


@pytest.mark.long
def test_end_to_end(tmp_path: Path) -> None:
    for i in range(16):
        storage.put_whole(f"{tmp_path}/in/{i:02d}.jpg", jpeg(photo(i, 240, 320)))
    rows = dict(table("end_to_end", "--input", f"{tmp_path}/in", "--repeat", "1", "--loop-seconds", "0.1"))
    for what in ("fetch: bare", "segment: bare", "refine: bare", "write: bare", "bound", "job, steady", "start-up"):
        [values] = [values for name, values in rows.items() if name.startswith(what)]
        assert len(values) == 3
        assert all(0 < value < math.inf for value in values)
    rates = [values[0] for name, values in rows.items() if "bare loop, " in name and "process" in name]
    [bound] = [values[0] for name, values in rows.items() if name.startswith("bound")]
    assert bound == pytest.approx(1 / sum(1 / rate for rate in rates), rel=0.02)
    assert rows["job / bound"][0] == pytest.approx(rows["job, steady"][0] / bound, rel=0.02)
    assert rows["core time: Segmenters, in the job"][0] > 0
    assert rows["core time: Refiners, in the job"][0] > 0


@pytest.mark.long
def test_training_step() -> None:
    rows = dict(table("training_step", "--batch", "2", "--crop", "65", "--rounds", "2"))
    assert list(rows) == ["float32", "bfloat16, gradients of the library", "bfloat16, composed gradients: in use"]
    for middle, least, most, *_ in rows.values():
        assert 0 < least <= middle <= most
    assert rows["float32"][3:] == [1, 1, 1]


@pytest.mark.long
def test_allocator() -> None:
    rows = dict(table("allocator", "--turns", "1", "--rounds", "1"))
    for sizes in ("one size", "many sizes"):
        given_back, kept = rows[f"{sizes}, given back"], rows[f"{sizes}, kept"]
        assert len(given_back) == len(kept) == 7
        assert kept[4] < given_back[4]  # page faults
        assert all(0 < values[6] <= values[5] for values in (given_back, kept))


@pytest.mark.long
def test_listing(bucket: str) -> None:
    rows = table("listing", "--input", f"{bucket}/listing", "--images", "[50]")
    assert [(what, values[0]) for what, values in rows] == [
        ("synthetic run", 50),
        ("synthetic rerun", 50),
        ("synthetic rerun, by notes", 50),
        ("listing", 50),
    ]
    for _, (_, before, more, seconds, rate) in rows:
        assert before > 0
        assert 0 <= more < 1000
        assert seconds > 0
        assert 0 < rate < math.inf


@pytest.mark.long
def test_resume(bucket: str) -> None:
    [(listed, figures)] = table("resume", "--input", f"{bucket}/resume", "--images", "[50]")
    assert listed == "50"
    seconds, before, more = figures
    assert 0 < seconds < math.inf
    assert before > 0
    assert more >= 0


@pytest.mark.long
def test_listing_measures_the_job_and_its_rerun(cluster: None, bucket: str) -> None:
    listing.put_objects(f"{bucket}/in", 20)
    for _ in range(2):
        measured = listing.run_job(f"{bucket}/in", f"{bucket}/out")
        assert measured.images == 20
        assert measured.peak >= measured.before > 0


@pytest.mark.long
def test_scale() -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--few", "200", "--many", "800", "--cpus", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) == {"on GPUs", "on CPUs"}
    for plan in figures.values():
        assert set(plan) == {"driver_ms", "ray_ms", "watch_ms", "fetch_write_ms", "images_per_second", "bound"}
        assert 0 < plan["images_per_second"] < 4000
        assert plan["bound"] > 0


@pytest.mark.long
def test_startup() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.startup", "--images", "4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert 0 < figures["run"]["first_mask_seconds"] < figures["run"]["seconds"]
    assert figures["rerun"]["first_mask_seconds"] is None
    assert figures["rerun"]["processes"] == 1  # no Ray


@pytest.mark.long
def test_crf() -> None:
    command = [sys.executable, "-m", "benchmarks.crf", "--repetitions", "1", "--no-growth"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "/" in line and line[0] == "|"][1:]
    assert len(rows) == 12
    for _, sure, kept, whole, every, ratio, default, default_ratio, _, *same in rows:
        assert 0 < float(sure) < 1
        assert 1 <= int(kept) <= 21
        assert float(ratio) == pytest.approx(float(whole) / float(every), abs=0.1)
        assert float(default_ratio) == pytest.approx(float(whole) / float(default), abs=0.1)
        assert all(float(cell.strip("% ")) >= 99.99 for cell in same)


@pytest.mark.long
def test_stages() -> None:
    names = ["light", "deeplabv3plus-mobilenet-v2", "hf: SegFormer-B0", "hf: DeepLabV3 MobileNetV2", "onnx: light"]
    flags = ("--networks", json.dumps(names), "--rounds", "1", "--height", "97", "--width", "129")
    measured = dict(table("stages", *flags))
    assert list(measured) == names
    for stride, *milliseconds in measured.values():
        assert stride in (2, 4, 16)
        assert len(milliseconds) == 7
        assert all(0 < value < math.inf for value in milliseconds)


def test_another_file_than_the_voc_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not the VOC network"):
        VocNetwork(__file__)


@pytest.mark.parametrize(("driver_seconds", "bound"), [(0.0, 1000.0), (0.01, 100.0)])
def test_a_simulated_cluster_is_as_fast_as_its_gpus_or_its_driver(driver_seconds: float, bound: float) -> None:
    simulated = simulate(10, Costs(segment_seconds=0.01, refine_seconds=0.3, driver_seconds=driver_seconds))
    assert 0.85 * bound < simulated.images_per_second < 1.02 * bound
    handed_out = simulated.driver_busy / driver_seconds if driver_seconds else simulated.images_per_second
    assert 1 <= handed_out / simulated.images_per_second < 1.01  # some batches again, after a loss


@pytest.mark.long
def test_selection(tmp_path: Path) -> None:
    for split in ("train", "val"):
        put_camvid(f"{tmp_path}", split, 12)
    rows = dict(table("selection", "--data", f"{tmp_path}", "--first", "2", "--repeat", "2"))
    assert list(rows) == ["uncertainty", "rare-class", "diversity", "random"]
    assert all(0 <= scores[0] <= 100 for scores in rows.values())
    assert rows["random"][2:4] == [0, 0]
