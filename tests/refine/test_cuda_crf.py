"""The CRF in Triton kernels against pydensecrf: on a GPU where there is one, else through Triton's interpreter."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.errors import CRFError
from pipeline.geometry import Geometry, Resize, aligned, half_pixels
from pipeline.logits import Floats, softmax, upsample
from pipeline.refine.crf import CRFParams, DenseCRF
from pipeline.refine.crf.cuda import CudaCRF
from pipeline.refine.crf.cuda.packing import Packing
from tests.helpers.photographs import PHOTOGRAPHS, RELEASED, SMOOTHER, logits_for, picture

ROOT = Path(__file__).parents[2]
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
STEPS = 10 if ON_GPU else 2
"""Iterations: the interpreter takes a second for a few of them, however small the picture."""

STRIDE_8 = aligned(8)


def shortened(params: CRFParams, **changes: object) -> CRFParams:
    return dataclasses.replace(params, iterations=STEPS, **changes)  # type: ignore[arg-type]


def assert_parity(params: CRFParams, image: NDArray[np.uint8], logits: Floats, geometry: Geometry = STRIDE_8) -> None:
    """Labels are pydensecrf's, but for pixels between two labels that its own posterior can hardly tell apart."""
    [refined] = CudaCRF(params, 0, DEVICE).refine([image], [logits], geometry)
    placed = geometry.over(*image.shape[:2])
    posterior = DenseCRF(params, "pydensecrf")(image, softmax(upsample(logits, *image.shape[:2], placed)))
    wrong = refined.mask != posterior.argmax(axis=0)
    chosen = np.take_along_axis(posterior, refined.mask[None].astype(np.int64), axis=0)[0]
    assert wrong.mean() <= 1e-4 or (posterior.max(axis=0) - chosen)[wrong].max() < 1e-3
    assert refined.confidence == pytest.approx(posterior.max(axis=0).mean(), abs=1e-3)
    assert refined.posterior.shape == refined.mask.shape
    assert np.abs(refined.posterior / 255 - chosen).mean() < 2e-3
    np.testing.assert_array_equal(refined.pixels, np.bincount(refined.mask.ravel(), minlength=len(logits)))


@pytest.mark.parametrize(("params", "normalization"), [(RELEASED, "symmetric"), (SMOOTHER, "after")])
@pytest.mark.parametrize("name", PHOTOGRAPHS if ON_GPU else PHOTOGRAPHS[:1])
def test_masks_of_photographs_are_pydensecrfs(name: str, params: CRFParams, normalization: str) -> None:
    params = shortened(params, normalization=normalization)
    image = picture(name, 375, 500) if ON_GPU else picture(name, 24, 33)
    logits = logits_for(image, 21)
    [refined] = CudaCRF(params, 1e-2, DEVICE).refine([image], [logits], aligned(8))
    [expected] = DenseCRF(params, "pydensecrf").refine([image], [logits], aligned(8))
    assert (refined.mask != expected.mask).sum() <= max(1, 1e-4 * refined.mask.size)
    assert refined.confidence == pytest.approx(expected.confidence, abs=1e-3)
    np.testing.assert_allclose(refined.class_confidence, expected.class_confidence, atol=1e-2)
    assert refined.mask.dtype == np.uint8
    assert (refined.pixels.dtype, refined.class_confidence.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize(
    ("shape", "content", "params"),
    [
        ((1, 1), "noise", RELEASED),
        ((2, 3), "photograph", SMOOTHER),
        ((1, 90), "noise", SMOOTHER),
        ((11, 13), "dark noise", RELEASED),
        ((24, 19), "constant", SMOOTHER),
    ],
)
def test_odd_shapes_and_contents(shape: tuple[int, int], content: str, params: CRFParams) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = {
        "photograph": picture(height=shape[0], width=shape[1]),
        "noise": noise,
        # around the zeros with which pydensecrf fills up the last four pixels
        "dark noise": noise // 20,
        "constant": np.full_like(noise, 7),  # a vertex sums hundreds of pixels, in pieces
    }[content]
    assert_parity(shortened(params), image, logits_for(picture(height=shape[0], width=shape[1]), labels=3))


def test_a_checkerboard_of_certain_pixels() -> None:
    board = np.indices((14, 21)).sum(axis=0) % 2
    image = (board[..., None] * 255).astype(np.uint8).repeat(3, axis=2)
    random = np.random.default_rng(0).integers(0, 3, board.shape)
    logits = np.where(np.arange(3)[:, None, None] == random, 50, -50).astype(np.float32)
    assert_parity(shortened(SMOOTHER), image, logits, aligned(1))


@pytest.mark.parametrize("labels", [1, 21, 256])
def test_label_counts(labels: int) -> None:
    image = picture(height=9, width=14)
    assert_parity(shortened(RELEASED), image, logits_for(image, labels))


@pytest.mark.parametrize("normalization", ["symmetric", "after"])
def test_costs_of_labels(normalization: str) -> None:
    image = picture(height=14, width=19)
    params = shortened(SMOOTHER, normalization=normalization, label_costs=(0, 1, 0.5, 1.5, 1))
    assert_parity(params, image, logits_for(image))
    [refined] = CudaCRF(params, 0.2, DEVICE).refine([image], [logits_for(image)], STRIDE_8)
    [expected] = DenseCRF(params, prune=0.2).refine([image], [logits_for(image)], STRIDE_8)
    np.testing.assert_array_equal(refined.mask, expected.mask)


def test_the_finest_colours_are_numbered_without_a_clash() -> None:
    # at the smallest standard deviation every colour is alone: the self term is all there is
    image = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    params = CRFParams(gaussian_weight=0, bilateral_rgb=0.1, bilateral_xy=0.1, iterations=STEPS)
    assert_parity(params, image, logits_for(picture(height=12, width=17)))


def test_no_kernels_and_no_iterations_leave_the_networks_labels() -> None:
    image = picture(height=12, width=17)
    for params in (CRFParams(iterations=0), CRFParams(gaussian_weight=0, bilateral_weight=0)):
        assert_parity(params, image, logits_for(image))


@pytest.mark.parametrize(
    "geometry",
    [
        aligned(1),
        aligned(4),
        half_pixels(4),
        half_pixels(8, Resize(sides=(40, 33))),
        half_pixels(2, Resize(shortest=9)),
    ],
)
def test_logits_are_read_where_their_geometry_says(geometry: Geometry) -> None:
    image = picture(height=14, width=19)
    logits = 3 * np.random.default_rng(0).normal(size=(3, *geometry.grid(14, 19)))
    assert_parity(CRFParams(iterations=0), image, logits, geometry)


def test_every_run_gives_the_same_bits_whatever_else_is_refined() -> None:
    images = [picture(name, 20 + 3 * index, 26) for index, name in enumerate(PHOTOGRAPHS[:2])]
    logits = [logits_for(image, 5, seed=seed) for seed, image in enumerate(images)]
    crf = CudaCRF(shortened(RELEASED), 1e-2, DEVICE)
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
    crf = CudaCRF(shortened(RELEASED), 1e-2, DEVICE)
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


def test_pictures_and_logits_on_the_device_are_views_of_a_batch() -> None:
    image = picture(height=14, width=19)
    logits = logits_for(image, 5)
    images_there = torch.zeros(2, 3, 24, 32, dtype=torch.uint8, device=DEVICE).permute(0, 2, 3, 1)
    images_there[1, :14, :19] = torch.tensor(image, device=DEVICE)
    logits_there = torch.full((2, 5, 4, 5), torch.nan, dtype=torch.float16, device=DEVICE)
    logits_there[1, :, :3, :4] = torch.from_numpy(logits).to(DEVICE)
    crf = CudaCRF(shortened(RELEASED), 1e-2, DEVICE)
    [there] = crf.refine([images_there[1, :14, :19]], [logits_there[1, :, :3, :4]], aligned(8))
    [here] = crf.refine([image], [logits], aligned(8))
    np.testing.assert_array_equal(there.mask, here.mask)
    assert there.confidence == here.confidence


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
