"""What the CRF in Triton kernels does beyond parity: on a GPU where there is one, else through Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.errors import CRFError
from pipeline.geometry import aligned
from pipeline.logits import Floats
from pipeline.refine.crf import CRFParams, DenseCRF
from pipeline.refine.crf.cuda import CudaCRF
from pipeline.refine.crf.cuda.mean_field import WIDTHS, MeanField
from pipeline.refine.crf.cuda.packing import Packing
from pipeline.refine.crf.cuda.window import windows
from pipeline.refine.tiles import tile_side
from tests.helpers.device_waits import without_waits
from tests.helpers.photographs import PHOTOGRAPHS, RELEASED, logits_for, picture

ROOT = Path(__file__).parents[2]
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
STRIDE_8 = aligned(8)


def test_every_run_gives_the_same_bits_whatever_else_is_refined() -> None:
    images = [picture(name, 20 + 3 * index, 26) for index, name in enumerate(PHOTOGRAPHS[:2])]
    logits = [logits_for(image, 5, seed=seed) for seed, image in enumerate(images)]
    crf = CudaCRF(CRFParams(iterations=2), 1e-2, DEVICE)
    first, again = crf.refine(images, logits, aligned(8)), crf.refine(images[::-1], logits[::-1], aligned(8))[::-1]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_array_equal(one.class_confidence, other.class_confidence)
        assert one.confidence == other.confidence


def test_what_is_left_in_memory_of_an_earlier_picture_changes_nothing() -> None:
    image = picture(height=14, width=19)
    logits = logits_for(image, 3)
    crf = CudaCRF(CRFParams(iterations=2), 0, DEVICE)
    [first] = crf.refine([image], [logits], STRIDE_8)
    with torch.inference_mode():
        for field in crf._fields:
            for buffer in field._buffers._buffers.values():
                buffer.fill_(255)  # as floats NaN, as integers -1
    [after] = crf.refine([image], [logits], STRIDE_8)
    np.testing.assert_array_equal(after.mask, first.mask)
    assert after.confidence == first.confidence


def test_labels_that_are_weak_everywhere_take_no_part() -> None:
    image = picture(height=20, width=26)
    logits = logits_for(image, 4)
    logits[1] = -30
    crf = CudaCRF(CRFParams(iterations=2), 1e-2, DEVICE)
    [refined] = crf.refine([image], [logits], aligned(8))
    assert (refined.kept, refined.pixels[1], refined.class_confidence[1]) == (3, 0, 0)
    [undecided] = crf.refine([image], [np.zeros((182, 4, 5), np.float16)], aligned(8))
    assert undecided.pixels[0] == undecided.mask.size  # some label stays, and of equals the first wins


def test_large_pictures_are_refined_in_the_tiles_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture("coffee", 40, 57)
    logits = logits_for(image, labels=4)
    params = CRFParams(iterations=2, bilateral_xy=4)
    [whole] = CudaCRF(params, 1e-2, DEVICE).refine([image], [logits], aligned(8))
    monkeypatch.setattr("pipeline.refine.tiles.MAX_TILE", 40)
    [on_cpu] = DenseCRF(params, "pydensecrf").refine([image], [logits], aligned(8))
    [on_gpu] = CudaCRF(params, 1e-2, DEVICE).refine([image], [logits], aligned(8))
    np.testing.assert_array_equal(on_gpu.mask, on_cpu.mask)
    np.testing.assert_array_equal(on_gpu.pixels, on_cpu.pixels)
    assert on_gpu.confidence == pytest.approx(on_cpu.confidence, abs=1e-4)
    assert whole.confidence != on_gpu.confidence


def test_floats_of_every_kind_are_read_as_the_numbers_they_are() -> None:
    image = picture(height=14, width=19)
    logits = logits_for(image, 5)
    crf = CudaCRF(CRFParams(iterations=1), 1e-2, DEVICE)
    kinds = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", np.longdouble]
    given = [logits, *(logits.astype(kind) for kind in kinds), np.asfortranarray(logits)]
    given += [torch.from_numpy(logits).to(kind).to(DEVICE) for kind in (torch.float32, torch.float64)]
    given[1].flags.writeable = False
    expected, *others = crf.refine([image] * len(given), given, aligned(8))
    for refined in others:
        np.testing.assert_array_equal(refined.mask, expected.mask)
    rounded = torch.from_numpy(logits).bfloat16()
    one, other = crf.refine([image, image], [rounded.to(DEVICE), rounded.float().numpy()], aligned(8))
    np.testing.assert_array_equal(one.mask, other.mask)


def test_logits_whose_differences_float32_cannot_hold_count_as_the_largest_that_it_can() -> None:
    image = picture(height=14, width=19)
    signs = np.sign(logits_for(image, 3).astype(np.float32))
    logits = [signs * np.float32(size) for size in (3e38, 1e30)]
    refined, expected = CudaCRF(CRFParams(iterations=1), 0, DEVICE).refine([image] * 2, logits, aligned(8))
    np.testing.assert_array_equal(refined.mask, expected.mask)
    np.testing.assert_array_equal(refined.class_confidence, expected.class_confidence)
    assert 0 < refined.confidence <= 1


def test_pictures_and_logits_on_the_device_are_views_of_a_batch() -> None:
    image = picture(height=14, width=19)
    logits = logits_for(image, 5)
    images_there = torch.zeros(2, 3, 24, 32, dtype=torch.uint8, device=DEVICE).permute(0, 2, 3, 1)
    images_there[1, :14, :19] = torch.tensor(image, device=DEVICE)
    logits_there = torch.full((2, 5, 4, 5), torch.nan, dtype=torch.float16, device=DEVICE)
    logits_there[1, :, :3, :4] = torch.from_numpy(logits).to(DEVICE)
    crf = CudaCRF(CRFParams(iterations=2), 1e-2, DEVICE)
    [there] = crf.refine([images_there[1, :14, :19]], [logits_there[1, :, :3, :4]], aligned(8))
    [here] = crf.refine([image], [logits], aligned(8))
    np.testing.assert_array_equal(there.mask, here.mask)
    assert there.confidence == here.confidence


@pytest.mark.parametrize("costs", [(), (0, 1, 0.5)])
def test_the_host_waits_for_nothing_of_a_window(costs: tuple[float, ...]) -> None:
    image = torch.tensor(picture(height=12, width=17), device=DEVICE)
    logits = torch.tensor(logits_for(picture(height=12, width=17), 3), device=DEVICE)
    [window] = windows(image, logits, STRIDE_8, tile=1024, margin=0)
    core = torch.empty((2, 12, 17), dtype=torch.uint8, device=DEVICE)
    field = MeanField(CRFParams(iterations=2, label_costs=costs), torch.device(DEVICE))
    with torch.inference_mode():
        field.iterate(window, field.build(window), [0, 2], core)  # kernels are compiled, and memory is taken
        with without_waits():
            field.survey(window)
            field.iterate(window, field.build(window), [0, 2], core)


def test_pictures_and_logits_may_span_more_than_32_bits_count(tmp_path: Path) -> None:
    """In the middle of memory of which hardly any is touched: an offset that overflows reads zeros."""
    size = 2**33 + 2**10
    kept_in = str(tmp_path / "sparse")
    memory = (
        torch.zeros(size, dtype=torch.uint8, device=DEVICE)
        if ON_GPU
        else torch.from_file(kept_in, True, size, dtype=torch.uint8)
    )

    def far_apart(array: NDArray[Any]) -> torch.Tensor:
        tensor = torch.tensor(array)
        room = memory.view(tensor.dtype)
        return room.as_strided(tensor.shape, (2**30, *tensor[0].stride()), len(room) // 2).copy_(tensor)

    image = picture(height=3, width=19)  # the last of three rows, or labels, lies 2^31 elements behind the first
    logits = logits_for(image, 3)
    crf = CudaCRF(CRFParams(iterations=2), 1e-2, DEVICE)
    [apart] = crf.refine([image], [far_apart(logits)], STRIDE_8)
    [together] = crf.refine([image], [logits], STRIDE_8)
    np.testing.assert_array_equal(apart.posterior, together.posterior)
    [apart] = crf.refine([far_apart(image)], [logits], STRIDE_8)
    np.testing.assert_array_equal(apart.posterior, together.posterior)


def test_a_windows_own_rows_span_less_than_32_bits_count() -> None:
    """So that its kernels may count in them: six corners a pixel, and pydensecrf's point after the last."""
    for labels in range(1, 257):
        width = next(width for width in WIDTHS if width >= labels)
        assert 6 * (tile_side(labels) ** 2 + 1) * width < 2**31


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("where", ["array", "tensor"])
def test_logits_that_are_not_finite_are_refused_with_their_place(where: str, value: float) -> None:
    image = picture(height=14, width=19)
    logits = logits_for(image).astype(np.float64)
    logits[3, 1, 2] = value
    given = logits if where == "array" else torch.from_numpy(logits).to(DEVICE)
    with pytest.raises(CRFError, match="logit of label 3 at grid row 1, column 2 is"):
        CudaCRF(RELEASED, 1e-2, DEVICE).refine([image], [given], aligned(8))


@pytest.mark.parametrize("kind", ["?", "u1", "<i4", ">i8", "<c8", "O", "V2", "M8[s]", "S4", torch.int32])
def test_what_is_no_float_is_refused(kind: str | torch.dtype) -> None:
    grid = torch.zeros(2, 3, 4, dtype=kind) if isinstance(kind, torch.dtype) else np.zeros((2, 3, 4), kind)
    with pytest.raises(CRFError, match=r"takes logits \(C, 3, 4\) float"):
        CudaCRF(RELEASED, 1e-2, DEVICE).refine([picture(height=14, width=19)], [grid], aligned(8))


@pytest.mark.parametrize(
    ("image", "logits", "message"),
    [
        (np.zeros((4, 6), np.uint8), np.zeros((2, 2, 2)), "takes an image"),
        (np.zeros((4, 6, 4), np.uint8), np.zeros((2, 2, 2)), "takes an image"),
        (np.zeros((4, 6, 3), np.float32), np.zeros((2, 2, 2)), "takes an image"),
        (torch.zeros(4, 6, 3), np.zeros((2, 2, 2)), "takes an image"),
        (np.zeros((0, 6, 3), np.uint8), np.zeros((2, 2, 2)), "takes an image"),
        (np.zeros((4, 6, 3), np.uint8), np.zeros((2, 2, 3)), "takes logits"),
        (np.zeros((4, 6, 3), np.uint8), torch.zeros(2, 2), "takes logits"),
        (np.zeros((4, 6, 3), np.uint8), np.zeros((0, 2, 2)), "takes logits"),
        (np.zeros((4, 6, 3), np.uint8), torch.zeros(257, 2, 2), "takes logits"),
    ],
)
def test_wrong_shapes_are_refused(
    image: NDArray[np.uint8] | torch.Tensor, logits: Floats | torch.Tensor, message: str
) -> None:
    with pytest.raises(CRFError, match=message):
        CudaCRF(RELEASED, 1e-2, DEVICE).refine([image], [logits], aligned(8))


def test_pictures_beyond_the_lattice_are_refused() -> None:
    for extents in ([40_000.0, 0.0], [8000.0] * 5):
        with pytest.raises(CRFError, match=r"standard deviations.*more than its lattice can number"):
            Packing.of(extents)


def test_a_missing_triton_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pipeline.refine.crf.cuda.mean_field", None)
    image = picture(height=14, width=19)
    with pytest.raises(CRFError, match=r"needs Triton, which comes with PyTorch's builds for CUDA.*--refine.device"):
        CudaCRF(RELEASED, 1e-2, DEVICE).refine([image], [logits_for(image)], aligned(8))


@pytest.mark.skipif(ON_GPU, reason="Triton has started where there is a GPU")
def test_a_missing_compiler_is_named_before_there_are_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for name, value in {"PATH": "", "TRITON_CACHE_DIR": str(tmp_path), "TRITON_LIBCUDA_PATH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(CRFError, match=r"Failed to find C compiler.*install a C compiler where the job runs"):
        CudaCRF(RELEASED, 1e-2, "cuda").open()


@pytest.mark.long
def test_the_kernels_compile_for_an_nvidia_gpu(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.compiled_kernels"],
        cwd=ROOT,
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kernels = {line.split()[0] for line in done.stdout.splitlines()}
    build = {"locate", "number", "link", "blur_masses", "slice_masses"}
    assert kernels == {*build, "survey", "start", "sum_pieces", "splat", "blur", "update", "label"}
