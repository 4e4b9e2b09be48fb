"""The CRF in Triton kernels has pydensecrf's labels: on a GPU where there is one, else through Triton's interpreter."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.geometry import Geometry, Resize, aligned, half_pixels
from pipeline.logits import Floats, softmax, upsample
from pipeline.refine.crf import CRFParams, DenseCRF
from pipeline.refine.crf.cuda import CudaCRF
from tests.helpers.photographs import PHOTOGRAPHS, RELEASED, SMOOTHER, logits_for, picture

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


@pytest.mark.skipif(not ON_GPU, reason="there is no GPU, and the interpreter would take hours")
def test_a_picture_of_six_megapixels_is_refined_in_the_tiles_of_the_cpu() -> None:
    image = picture("coffee", 2000, 3000)
    logits = logits_for(image, 21)
    [refined] = CudaCRF(RELEASED, 1e-2, DEVICE).refine([image], [logits], STRIDE_8)
    [expected] = DenseCRF(RELEASED).refine([image], [logits], STRIDE_8)
    assert (refined.mask != expected.mask).mean() <= 1e-4
