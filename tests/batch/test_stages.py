"""The SegmentStage and the RefineStage as plain classes, without Ray: one image's trouble stays that image's."""

import multiprocessing
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from pipeline import masks
from pipeline.batch import segment_stage
from pipeline.batch.balance import ON_GPU, Balance, GpuCosts
from pipeline.batch.counts import Backlog
from pipeline.batch.gpu_refinement import GpuRefinement
from pipeline.batch.isolation import DEVICE_LOST
from pipeline.batch.refine_stage import RefineStage
from pipeline.batch.rows import FINISHED, LOGITS, SEGMENTED
from pipeline.batch.segment_stage import SegmentStage
from pipeline.batch.tracker import LocalTracker
from pipeline.data import rows
from pipeline.errors import CRFError
from pipeline.geometry import Geometry, Resize, aligned, half_pixels
from pipeline.logits import from_bytes, grid_size, to_bytes
from pipeline.models import Inference, Predictor, build
from pipeline.models.preprocessing import resized
from pipeline.models.transfer import OnDevice
from pipeline.refine import Argmax, GpuRefiner, Refinement
from pipeline.refine.crf import CRFParams, DenseCRF
from pipeline.refine.crf.cuda.refiner import CudaCRF
from tests.helpers.pictures import jpeg, photo

CLASSES = ("ground", "tree", "sky")
PALETTE = masks.pascal_palette(3)


class Brightness:
    """A network whose logits can be told from the picture, and which cannot take a picture of one pixel."""

    overlaps = False
    pass_pixels = 1300

    def upload(self, pictures: Sequence[NDArray[np.uint8]]) -> list[OnDevice]:
        return [OnDevice(torch.tensor(picture)) for picture in pictures]

    def compute(self, pictures: Sequence[OnDevice]) -> list[OnDevice]:
        if any(tuple(picture.tensor.shape[:2]) == (1, 1) for picture in pictures):
            raise ValueError("too small")
        return [self._logits(picture.tensor.numpy()) for picture in pictures]

    def download(self, grids: Sequence[OnDevice]) -> list[NDArray[np.float16]]:
        return [grid.tensor.numpy() for grid in grids]

    def _logits(self, picture: NDArray[np.uint8]) -> OnDevice:
        grid = np.full((3, grid_size(picture.shape[0], 8), grid_size(picture.shape[1], 8)), -9, np.float16)
        grid[int(picture.mean() // 86)] = 9
        return OnDevice(torch.from_numpy(grid))


class BesideTheCores(Brightness):
    """Brightness on a device that works beside the cores; counts its groups by the sizes of their pictures."""

    overlaps = True

    def __init__(self) -> None:
        self.groups: list[list[tuple[int, ...]]] = []

    def compute(self, pictures: Sequence[OnDevice]) -> list[OnDevice]:
        self.groups.append([tuple(picture.tensor.shape[:2]) for picture in pictures])
        return super().compute(pictures)


def fetched(**encoded: bytes) -> pa.Table:
    return rows.table([{"key": k, "source": k, "version": "1", "image": v} for k, v in encoded.items()], rows.FETCHED)


def segmented(batch: pa.Table, predictor: Any = None, max_pixels: int = 10_000) -> dict[str, dict[str, Any]]:
    stage = SegmentStage(lambda: predictor or Brightness(), max_pixels, LocalTracker())
    done = pa.concat_tables(stage(batch))
    assert done.schema.equals(LOGITS)
    return {row["key"]: row for row in done.to_pylist()}


def plain(level: int, height: int = 20, width: int = 30) -> bytes:
    return jpeg(np.full((height, width, 3), level, np.uint8))


def test_each_row_keeps_its_own_logits() -> None:
    done = segmented(fetched(dark=plain(10), light=plain(250), mid=plain(128), wide=plain(250, 20, 90)))
    assert {key: row["shape"] for key, row in done.items()} == {
        "dark": [3, 4, 5],
        "light": [3, 4, 5],
        "mid": [3, 4, 5],
        "wide": [3, 4, 13],
    }
    best = {key: int(from_bytes(row["logits"], tuple(row["shape"]))[:, 0, 0].argmax()) for key, row in done.items()}
    assert best == {"dark": 0, "light": 2, "mid": 1, "wide": 2}


def test_what_cannot_be_decoded_or_segmented_fails_alone() -> None:
    done = segmented(
        fetched(good=plain(10), broken=b"no image", tiny=plain(10, 1, 1), large=plain(10, 200, 200), other=plain(250))
    )
    assert {key: (row["stage"], row["error"]) for key, row in done.items()} == {
        "good": (None, None),
        "other": (None, None),
        "broken": ("decode", "ImageError"),
        "large": ("decode", "ImageError"),
        "tiny": ("segment", "ValueError"),
    }
    assert done["good"]["logits"] is not None
    assert done["tiny"]["logits"] is done["broken"]["image"] is None


def test_beside_a_gpu_pictures_of_a_size_share_a_group_and_rows_keep_their_order() -> None:
    encoded = fetched(
        a=plain(10), b=plain(250, 20, 31), broken=b"no image", c=plain(128), tiny=plain(10, 1, 1), d=plain(250, 20, 31)
    )
    device = BesideTheCores()
    done = segmented(encoded, device)
    assert list(done) == ["a", "b", "broken", "c", "tiny", "d"]
    expected = segmented(encoded)
    assert done == expected
    assert device.groups == [[(1, 1), (20, 30), (20, 30)], [(1, 1)], [(20, 30)], [(20, 30)], [(20, 31), (20, 31)]]


def test_an_image_too_large_for_the_memory_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = segment_stage.images.decode

    def little_memory(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
        if segment_stage.images.header_pixels(data) > 1000:
            raise MemoryError
        return decode(data, max_pixels)

    monkeypatch.setattr(segment_stage.images, "decode", little_memory)
    done = segmented(fetched(good=plain(10), large=plain(10, 40, 40)))
    assert (done["good"]["error"], done["large"]["stage"], done["large"]["error"]) == (None, "decode", "MemoryError")


def test_rows_that_failed_before_pass_through() -> None:
    lost = rows.table([{"key": "lost", "stage": "fetch", "error": "StorageError", "message": "gone"}], rows.FETCHED)
    done = segmented(pa.concat_tables([lost, fetched(good=plain(10))]))
    assert (done["lost"]["stage"], done["lost"]["message"]) == ("fetch", "gone")
    assert done["good"]["error"] is None


def test_large_pictures_are_not_decoded_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_stage, "MAX_DECODED_PIXELS", 1300)
    together = []

    class Counting(Brightness):
        def compute(self, pictures: Sequence[OnDevice]) -> list[OnDevice]:
            together.append(sum(picture.tensor.shape[0] * picture.tensor.shape[1] for picture in pictures))
            return super().compute(pictures)

    segmented(fetched(a=plain(1), b=plain(1), c=plain(1), d=plain(1, 40, 50), e=plain(1)), Counting())
    assert together == [1200, 600, 2000, 600]


def _segment_on_a_lost_device() -> None:
    class Lost(Brightness):
        def compute(self, pictures: Any) -> Any:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    segmented(fetched(a=plain(1)), Lost())


def test_a_lost_device_ends_the_process_not_the_images() -> None:
    process = multiprocessing.get_context("fork").Process(target=_segment_on_a_lost_device)
    process.start()
    process.join(60)
    assert process.exitcode == DEVICE_LOST


def refined(batch: pa.Table) -> dict[str, dict[str, Any]]:
    done = pa.concat_tables(RefineStage(Argmax(), CLASSES, PALETTE, aligned(8), 10_000, LocalTracker())(batch))
    assert done.schema.equals(FINISHED)
    return {row["key"]: row for row in done.to_pylist()}


def with_logits(picture: NDArray[np.uint8], logits: NDArray[np.floating]) -> pa.Table:
    row = {"key": "a", "image": jpeg(picture), "logits": to_bytes(logits), "shape": logits.shape}
    return rows.table([row], LOGITS)


def test_masks_follow_the_logits() -> None:
    logits = np.full((3, 4, 5), -9, np.float32)
    logits[0, :, :2] = logits[2, :, 2:] = 9  # columns 0 and 8 are ground; 16, 24 and 32 are sky
    row = refined(with_logits(photo(0, 20, 30), logits))["a"]
    assert row["confidence_map"] is None
    mask = masks.decode(row["mask"]["bytes"])
    assert (row["height"], row["width"]) == mask.shape == (20, 30)
    assert set(np.unique(mask[:, :12])) == {0}
    assert set(np.unique(mask[:, 13:])) == {2}
    assert [(c["id"], c["name"]) for c in row["classes"]] == [(0, "ground"), (2, "sky")]
    assert sum(c["pixels"] for c in row["classes"]) == 600
    assert 0.9 < row["confidence"] <= 1


def test_the_crf_is_given_the_picture() -> None:
    """A step in brightness two columns beside the step in the logits: refinement moves the border onto it."""
    picture = np.zeros((24, 33, 3), np.uint8)
    picture[:, 18:] = 255
    logits = np.zeros((2, 4, 5), np.float32)
    logits[0, :, :2], logits[1, :, 2:] = 2, 2  # the border lies at column 12
    crf = DenseCRF(CRFParams(bilateral_rgb=10, bilateral_weight=10))
    row = {"key": "a", "image": jpeg(picture), "logits": to_bytes(logits), "shape": logits.shape}
    stage = RefineStage(crf, CLASSES[:2], PALETTE, aligned(8), 10_000, LocalTracker())
    [done] = pa.concat_tables(stage(rows.table([row], LOGITS))).to_pylist()
    mask = masks.decode(done["mask"]["bytes"])
    assert (mask == (np.arange(33) >= 18)).all()


def test_a_confidence_map_is_of_the_winning_posterior() -> None:
    logits = np.zeros((3, 4, 5), np.float32)
    logits[2, :, 2:] = 3  # a third each up to column 8; from column 16 on e^3 / (e^3 + 2)
    batch = with_logits(photo(0, 20, 30), logits)
    done = pa.concat_tables(
        RefineStage(Argmax(), CLASSES, PALETTE, aligned(8), 10_000, LocalTracker(), confidence_map=True)(batch)
    )
    [row] = done.to_pylist()
    confidence = masks.decode_confidence(row["confidence_map"]["bytes"])
    assert confidence.shape == (20, 30)
    assert set(np.unique(confidence[:, :9])) == {85}
    assert set(np.unique(confidence[:, 16:])) == {round(255 * np.exp(3) / (np.exp(3) + 2))}
    assert confidence.mean() / 255 == pytest.approx(row["confidence"], abs=0.5 / 255)


def test_logits_that_are_not_finite_are_an_error_row() -> None:
    row = refined(with_logits(photo(0, 20, 30), np.full((3, 4, 5), np.nan, np.float32)))["a"]
    assert (row["stage"], row["error"], row["mask"]) == ("refine", "CRFError", None)


def test_progress_counts_what_left_the_last_stage() -> None:
    tracker = LocalTracker()
    lost = rows.table([{"key": "lost", "stage": "fetch", "error": "StorageError", "message": "gone"}], LOGITS)
    good = with_logits(photo(0, 20, 30), np.zeros((3, 4, 5), np.float32))
    list(RefineStage(Argmax(), CLASSES, PALETTE, aligned(8), 10_000, tracker)(pa.concat_tables([lost, good])))
    counts = tracker.counts()
    assert (counts.finished, counts.failed, counts.kept, counts.waiting) == (2, 1, 3, 0)
    assert counts.images == {"refine": 1}


def test_a_real_network_fits_between_the_stages() -> None:
    model = build("deeplabv2-efficientnet-lite0-aspp", CLASSES).eval()
    stage = SegmentStage(lambda: Predictor(model, Inference()), 10_000, LocalTracker())
    done = refined(pa.concat_tables(stage(fetched(a=jpeg(photo(1, 41, 50)), b=jpeg(photo(2, 33, 50))))))
    assert {key: masks.decode(row["mask"]["bytes"]).shape for key, row in done.items()} == {
        "a": (41, 50),
        "b": (33, 50),
    }


def test_an_image_beyond_the_devices_memory_fails_alone() -> None:
    """Whatever the Predictor could not make fit, by halving its passes and its tiles."""

    class Small(Brightness):
        def compute(self, pictures: Sequence[OnDevice]) -> list[OnDevice]:
            if sum(picture.tensor.numel() for picture in pictures) > 5000:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
            return super().compute(pictures)

    done = segmented(fetched(a=plain(10), b=plain(20), c=plain(30), large=plain(40, 60, 60)), Small())
    assert {key: row["error"] for key, row in done.items()} == dict.fromkeys("abc") | {"large": "OutOfMemoryError"}
    assert "out of memory" in done["large"]["message"]


class OnTheGpu(DenseCRF, GpuRefiner):
    """Stands for the refiner of a GPU's actor: takes tensors; counts the pictures, and fails on one of a size."""

    def __init__(self, too_large: int = 2**30) -> None:
        super().__init__(CRFParams(iterations=2))
        self.refined, self.too_large, self.is_open = 0, too_large, False

    def open(self) -> None:
        self.is_open = True

    def refine(self, images: Any, logits: Any, geometry: Geometry) -> list[Refinement]:
        assert self.is_open
        assert {type(tensor) for tensor in logits} == {torch.Tensor}
        assert {type(image) for image in images} == {np.ndarray if geometry.resize else torch.Tensor}
        if any(np.asarray(image).size > self.too_large for image in images):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
        self.refined += len(images)
        return super().refine([np.asarray(image) for image in images], [grid.numpy() for grid in logits], geometry)


def pictures_and_more() -> pa.Table:
    pictures = {"a": photo(1, 40, 50), "b": photo(2, 40, 50), "c": photo(3, 30, 50), "d": photo(4, 40, 50)}
    lost = rows.table([{"key": "lost", "stage": "fetch", "error": "StorageError", "message": "gone"}], rows.FETCHED)
    return pa.concat_tables([fetched(**{k: jpeg(p) for k, p in pictures.items()}, broken=b"no image"), lost])


def in_two_stages(encoded: pa.Table, confidence_map: bool = False) -> pa.Table:
    refiner = DenseCRF(CRFParams(iterations=2))
    segmenter = SegmentStage(Brightness, 10_000, LocalTracker())  # type: ignore[arg-type]
    stage = RefineStage(refiner, CLASSES, PALETTE, aligned(8), 10_000, LocalTracker(), confidence_map)
    return pa.concat_tables(stage(pa.concat_tables(segmenter(encoded))))


@pytest.mark.parametrize("device", [Brightness, BesideTheCores])
def test_a_gpu_that_refines_gives_what_two_stages_give(device: Any) -> None:
    tracker, crf = LocalTracker(), OnTheGpu()
    refinement = GpuRefinement(crf, CLASSES, PALETTE, aligned(8), confidence_map=True)
    done = pa.concat_tables(SegmentStage(device, 10_000, tracker, refinement)(pictures_and_more()))
    assert done.equals(in_two_stages(pictures_and_more(), confidence_map=True))
    assert done["confidence_map"].null_count == 2
    assert crf.refined == 4
    counts = tracker.counts()
    assert (counts.finished, counts.failed, counts.waiting, counts.kept) == (6, 2, 0, 4)
    assert counts.images == {"segment": 5, ON_GPU: 4}


def test_a_gpu_refines_what_the_cpus_cannot_take() -> None:
    tracker, crf = LocalTracker(), OnTheGpu()

    class OneForTheCpus(Balance):
        def for_cpus(self, images: int, backlog: Backlog, costs: GpuCosts | None) -> int:
            return 1

    refinement = GpuRefinement(crf, CLASSES, PALETTE, aligned(8), OneForTheCpus(segmenters=1, refiners=1))
    segmented = pa.concat_tables(SegmentStage(BesideTheCores, 10_000, tracker, refinement)(pictures_and_more()))  # type: ignore[arg-type]
    assert segmented.schema.equals(SEGMENTED)
    assert [row["logits"] is not None for row in segmented.to_pylist()] == [True, *[False] * 5]
    assert [row["mask"] is not None for row in segmented.to_pylist()] == [False, True, True, True, False, False]
    assert tracker.backlog().waiting == 2  # the image for the CPUs, and the broken one until it leaves the last stage
    assert tracker.backlog().seconds is None
    cpu = DenseCRF(CRFParams(iterations=2))
    done = pa.concat_tables(RefineStage(cpu, CLASSES, PALETTE, aligned(8), 10_000, tracker)(segmented))
    assert done.equals(in_two_stages(pictures_and_more()))
    counts = tracker.counts()
    assert (counts.finished, counts.failed, counts.waiting, counts.kept) == (6, 2, 0, 4)
    assert counts.images == {"segment": 5, ON_GPU: 3, "refine": 1}


def test_a_picture_that_the_gpu_cannot_refine_fails_alone() -> None:
    crf = OnTheGpu(too_large=3 * 30 * 50)
    refinement = GpuRefinement(crf, CLASSES, PALETTE, aligned(8))
    done = pa.concat_tables(SegmentStage(Brightness, 10_000, LocalTracker(), refinement)(pictures_and_more()))  # type: ignore[arg-type]
    stages = {row["key"]: (row["stage"], row["error"]) for row in done.to_pylist()}
    assert stages["c"] == (None, None)
    assert {stages[key] for key in "abd"} == {("refine", "OutOfMemoryError")}


class AllOnTheGpu(Balance):
    """Sends nothing to the CPUs of its own accord."""

    def for_cpus(self, images: int, backlog: Backlog, costs: GpuCosts | None) -> int:
        return 0


def test_a_picture_that_the_gpu_cannot_refine_is_for_the_cpus_where_they_refine_too() -> None:
    tracker, crf = LocalTracker(), OnTheGpu(too_large=3 * 30 * 50)
    refinement = GpuRefinement(crf, CLASSES, PALETTE, aligned(8), AllOnTheGpu(segmenters=1, refiners=1))
    segmented = pa.concat_tables(SegmentStage(BesideTheCores, 10_000, tracker, refinement)(pictures_and_more()))  # type: ignore[arg-type]
    assert [row["mask"] is not None for row in segmented.to_pylist()] == [False, False, True, False, False, False]
    cpu = DenseCRF(CRFParams(iterations=2))
    done = pa.concat_tables(RefineStage(cpu, CLASSES, PALETTE, aligned(8), 10_000, tracker)(segmented))
    assert done.equals(in_two_stages(pictures_and_more()))
    assert tracker.counts().images == {"segment": 5, ON_GPU: 1, "refine": 3}


def test_a_gpu_that_cannot_refine_is_told_before_any_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refinement = GpuRefinement(CudaCRF(CRFParams(), 0.01), CLASSES, PALETTE, aligned(8))
    with pytest.raises(CRFError, match="needs a CUDA device, and PyTorch sees none"):
        SegmentStage(Brightness, 10_000, LocalTracker(), refinement)  # type: ignore[arg-type]


def test_a_picture_that_the_network_sees_resized_is_refined_in_its_own_size() -> None:
    geometry = half_pixels(8, Resize(sides=(16, 24)))

    class Grid(Brightness):
        def upload(self, pictures: Sequence[NDArray[np.uint8]]) -> list[OnDevice]:
            return super().upload([resized(picture, geometry.resize) for picture in pictures])

        def _logits(self, picture: NDArray[np.uint8]) -> OnDevice:
            grid = np.full((3, *geometry.grid(*picture.shape[:2])), -9, np.float16)
            grid[2, :1], grid[1, 1:] = 9, 9
            return OnDevice(torch.from_numpy(grid))

    encoded = fetched(a=jpeg(photo(1, 40, 50)), b=jpeg(photo(2, 30, 50)))
    refinement = GpuRefinement(OnTheGpu(), CLASSES, PALETTE, geometry)
    done = pa.concat_tables(SegmentStage(Grid, 10_000, LocalTracker(), refinement)(encoded))  # type: ignore[arg-type]
    parts = pa.concat_tables(SegmentStage(Grid, 10_000, LocalTracker())(encoded))  # type: ignore[arg-type]
    refiner = DenseCRF(CRFParams(iterations=2))
    stage = RefineStage(refiner, CLASSES, PALETTE, geometry, 10_000, LocalTracker())
    assert done.equals(pa.concat_tables(stage(parts)))
    assert done["height"].to_pylist() == [40, 30]
