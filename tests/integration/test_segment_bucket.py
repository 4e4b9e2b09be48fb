"""The main job over a real S3 server and a real Ray instance: images, tars and Parquet; broken files; reruns."""

import dataclasses
import hashlib
import io
import json
import tarfile
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from pipeline import masks, storage
from pipeline.batch.config import RunConfig
from pipeline.batch.preflight import check
from pipeline.batch.run import segment
from pipeline.batch.summary import Summary
from pipeline.geometry import Geometry
from pipeline.refine import GpuRefiner, RefineConfig, Refinement
from pipeline.refine.crf import DenseCRF
from pipeline.runtime.plan import Plan
from tests.helpers.pictures import jpeg, photo
from tests.helpers.segmenting import rows
from tests.helpers.servers import new_bucket

pytestmark = pytest.mark.usefixtures("cluster")


def run(source: str, output: str, **options: Any) -> Summary:
    return segment(check(RunConfig(input=source, output=output, model="scenes", **options)))


def pictures(count: int) -> dict[str, bytes]:
    """Encoded pictures of three shapes, by name."""
    shapes = [(60, 80), (60, 80), (45, 100)]
    return {f"{i:03d}": jpeg(photo(i, *shapes[i % 3])) for i in range(count)}


def put(uri: str, layout: str, encoded: dict[str, bytes]) -> str:
    """Store pictures in one of the three formats; returns what to give to --input."""
    if layout == "images":
        for name, data in encoded.items():
            storage.put_whole(f"{uri}/in/{name}.jpg", data)
    elif layout == "webdataset":
        for number, part in enumerate((list(encoded)[::2], list(encoded)[1::2])):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as archive:
                for name in part:
                    for suffix, data in ((".jpg", encoded[name]), (".json", b"{}")):
                        member = tarfile.TarInfo(name + suffix)
                        member.size = len(data)
                        archive.addfile(member, io.BytesIO(data))
            storage.put_whole(f"{uri}/in/shard-{number}.tar", buffer.getvalue())
    else:
        cells = [{"bytes": data, "path": None} for data in encoded.values()]
        buffer = io.BytesIO()
        pq.write_table(pa.table({"key": list(encoded), "image": cells}), buffer, row_group_size=7)
        storage.put_whole(f"{uri}/in/part.parquet", buffer.getvalue())
    return f"{uri}/in"


def name(key: str) -> str:
    """Of a picture, whatever file it lies in."""
    return key.rpartition("/")[2].removesuffix(".jpg")


LAYOUTS = ("images", "webdataset", "parquet")


@pytest.fixture(scope="module")
def outputs(cluster: None) -> dict[str, tuple[Summary, str]]:
    """The same twelve pictures segmented from each of the three formats: summary and output of each run."""
    encoded = pictures(12)
    found = {}
    for layout in LAYOUTS:
        base = new_bucket()
        found[layout] = (run(put(base, layout, encoded), f"{base}/out"), f"{base}/out")
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_image_becomes_a_mask(outputs: dict[str, tuple[Summary, str]], layout: str) -> None:
    summary, output = outputs[layout]
    assert (summary.listed, summary.skipped, summary.segmented, summary.failed) == (12, 0, 12, 0)
    found = rows(output, "masks")
    files = {"images": [""], "webdataset": ["shard-0.tar/", "shard-1.tar/"], "parquet": ["part.parquet/"]}[layout]
    suffix = ".jpg" if layout == "images" else ""
    assert {row["key"] for row in found} == {f"{files[i % len(files)]}{i:03d}{suffix}" for i in range(12)}
    for row in found:
        mask = masks.decode(row["mask"]["bytes"])
        assert mask.shape == (row["height"], row["width"]) in {(60, 80), (45, 100)}
        counts = dict(zip(*np.unique(mask, return_counts=True), strict=True))
        assert {c["id"]: c["pixels"] for c in row["classes"]} == counts
        assert 0 < row["confidence"] <= 1
        assert row["run_id"] == summary.run_id
    written = json.loads(storage.read_bytes(f"{output}/_runs/{summary.run_id}/summary.json"))
    assert written == json.loads(summary.to_json())
    plan = written["plan"]
    assert (plan["segmenters"], plan["refiners"]) == (1, 1)  # of two CPUs: more is not worth its start


def test_all_formats_give_the_same_masks(outputs: dict[str, tuple[Summary, str]]) -> None:
    found = [{name(key): mask.tobytes() for key, mask in masks.read(output)} for _, output in outputs.values()]
    assert found[0] == found[1] == found[2]


def test_the_digest_is_that_of_the_input_bytes(outputs: dict[str, tuple[Summary, str]]) -> None:
    found = rows(outputs["parquet"][1], "masks")
    assert {name(row["key"]): row["digest"] for row in found} == {
        key: hashlib.sha256(data).hexdigest() for key, data in pictures(12).items()
    }


def test_one_commit_makes_one_file(outputs: dict[str, tuple[Summary, str]]) -> None:
    """Twelve pictures pass as several blocks and batches; files are not made of those."""
    for _, output in outputs.values():
        assert len(list(storage.list_files(f"{output}/masks"))) == 1


def test_a_rerun_does_what_is_new_or_changed_or_was_beyond_the_limit(bucket: str) -> None:
    source = put(bucket, "images", pictures(7) | {"bad": b"broken"})
    first = run(source, f"{bucket}/out", limit=7)
    assert (first.listed, first.segmented, first.failed) == (7, 7, 0)
    again = run(source, f"{bucket}/out", limit=7)
    assert (again.listed, again.skipped, again.segmented, again.failed) == (7, 7, 0, 0)
    storage.put_whole(f"{source}/new.jpg", jpeg(photo(77)))
    storage.put_whole(f"{source}/000.jpg", jpeg(photo(78)))
    third = run(source, f"{bucket}/out")
    assert (third.listed, third.skipped, third.segmented, third.failed) == (9, 6, 2, 1)
    last = run(source, f"{bucket}/out")
    assert (last.listed, last.skipped, last.segmented, last.failed) == (9, 9, 0, 0)
    assert sorted(key for key, _ in masks.read(f"{bucket}/out")) == sorted(
        [f"{i:03d}.jpg" for i in range(7)] + ["new.jpg"]
    )


def test_without_the_crf_and_with_what_lies_beside_the_images(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = put(bucket, "images", pictures(2))
    for name in ("notes.txt", "more.tar.gz", "_temporary/0.jpg", "_temporary/1.jpg"):
        storage.put_whole(f"{source}/{name}", b"")
    summary = run(source, f"{bucket}/out", refine=RefineConfig(backend="none"))
    assert (summary.listed, summary.segmented, summary.failed) == (2, 2, 0)
    assert summary.ignored == {".txt": 1, ".tar.gz": 1, "hidden names": 1}
    lines = capsys.readouterr().err.splitlines()
    assert f"ignored: {source}/more.tar.gz: a compressed tar cannot be read in parts; unpack it to .tar" in lines
    [counted] = [line for line in lines if line.startswith("ignored: 1 ")]
    assert sorted(counted.removeprefix("ignored: ").split(", ")) == ["1 .tar.gz", "1 .txt", "1 hidden name"]
    [info] = masks.generations(f"{bucket}/out")
    assert info.crf is None


@pytest.mark.slow
def test_an_image_that_kills_its_worker_becomes_an_error_row(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SegmentStage's process really dies, by a signal, whenever it decodes the poison image."""
    from pipeline.batch import graph, segment_stage

    source = put(bucket, "images", pictures(9) | {"poison": b"POISON" + jpeg(photo(99))})

    class Mortal(segment_stage.SegmentStage):
        def _decode(self, data: bytes) -> Any:
            if data.startswith(b"POISON"):
                import os
                import signal

                os.kill(os.getpid(), signal.SIGKILL)
            return super()._decode(data)

    monkeypatch.setattr(graph, "SegmentStage", Mortal)
    summary = run(source, f"{bucket}/out")
    assert (summary.listed, summary.segmented, summary.failed) == (10, 9, 1)
    [error] = rows(f"{bucket}/out", "errors")
    assert (error["key"], error["stage"], error["error"]) == ("poison.jpg", "segment", "WorkerError")


@pytest.mark.slow
def test_a_worker_that_refines_what_the_cpus_cannot_take_makes_the_same_masks(
    bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan of a GPU and a CPU, on two CPUs: one stands for the GPU, beside which the steps overlap."""
    from pipeline.batch import balance, graph
    from pipeline.batch import run as batch_run
    from pipeline.models import Predictor

    class Beside(Predictor):
        overlaps = True  # type: ignore[assignment]

    class OnTheGpu(DenseCRF, GpuRefiner):
        def open(self) -> None:
            pass

        def refine(self, images: Any, logits: Any, geometry: Geometry) -> list[Refinement]:
            return super().refine([one.numpy() for one in images], [one.numpy() for one in logits], geometry)

    class Either(DenseCRF):
        def refine(self, *given: Any) -> list[Refinement]:
            time.sleep(0.3 * len(given[0]))  # or a fast core would take all
            return super().refine(*given)

        def on_gpu(self) -> Any:
            return OnTheGpu(self.params)

    both = Plan(
        segmenters=1,
        most_segmenters=1,
        segmenter_cpus=1,
        segmenter_gpus=0,
        segmenter_batch=12,
        gpus_refine=True,
        refiners=1,
        most_refiners=1,
        refiner_cpus=1,
        fetchers=3,
    )
    monkeypatch.setattr(batch_run, "plan_when_free", lambda *_: both)
    monkeypatch.setattr(graph, "_predictor", lambda model, inference: Beside(ray.get(model), inference))
    monkeypatch.setattr(balance, "MEASURED_IMAGES", 1)
    source = put(bucket, "images", pictures(36) | {"broken": b"no image"})
    ready = check(RunConfig(input=source, output=f"{bucket}/both", model="scenes", error_budget=0.1))
    summary = segment(dataclasses.replace(ready, refiner=Either(ready.refiner.params)))
    assert (summary.segmented, summary.failed) == (36, 1)
    *_, line = (line for line in capsys.readouterr().err.splitlines() if line.startswith("refined: "))
    assert "of the images on 1 CPUs" in line
    monkeypatch.undo()
    assert run(source, f"{bucket}/out", error_budget=0.1).segmented == 36
    expected = dict(masks.read(f"{bucket}/out"))
    for key, mask in masks.read(f"{bucket}/both"):
        assert (mask == expected[key]).mean() > 0.999
    generations = [masks.generations(f"{bucket}/{output}")[0].generation for output in ("both", "out")]
    assert generations[0] == generations[1]
