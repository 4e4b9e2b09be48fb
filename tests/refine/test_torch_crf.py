"""The torch CRF, its batches and its reproducibility. What runs here on the CPU is what CUDA runs."""

import dataclasses

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from pipeline.errors import CRFError
from pipeline.geometry import aligned
from pipeline.logits import grid_size
from pipeline.logits import upsample as upsample_on_the_cpu
from pipeline.refine import refine_in_tiles
from pipeline.refine.crf import CRFParams, DenseCRF
from pipeline.refine.crf.permutohedral_torch import MAX_RUN, SparseMatrix, build_lattice
from pipeline.refine.crf.torch_crf import TorchCRF, mean_field_update, upsample
from tests.helpers.photographs import PHOTOGRAPHS, RELEASED, SMOOTHER, logits_for, picture, probabilities_for


def batch(arrays):
    return torch.from_numpy(np.stack(arrays))


def posterior_of_one(params, image, probabilities):
    return TorchCRF(params, "cpu").posterior(batch([image]), batch([probabilities]))[0].numpy()


def test_a_batch_is_its_pictures_one_by_one_and_every_run_gives_the_same_bits():
    images = [picture(name) for name in PHOTOGRAPHS] + [np.zeros((40, 50, 3), np.uint8)]
    probabilities = [probabilities_for(image, seed=seed) for seed, image in enumerate(images)]
    crf = TorchCRF(RELEASED, "cpu")
    together = crf.posterior(batch(images), batch(probabilities))
    assert together.shape == (5, 5, 40, 50)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(together[index], posterior_of_one(RELEASED, image, probabilities[index]))
    assert torch.equal(crf.posterior(batch(images), batch(probabilities)), together)


def test_one_crf_serves_pictures_of_any_size_in_turn():
    crf = TorchCRF(RELEASED, "cpu")
    for height, width in [(20, 30), (30, 20), (20, 30)]:
        image = picture(height=height, width=width)
        probabilities = probabilities_for(image)
        posterior = crf.posterior(batch([image]), batch([probabilities]))[0]
        np.testing.assert_array_equal(posterior, posterior_of_one(RELEASED, image, probabilities))


def test_vertices_with_many_points_are_summed_in_pieces():
    # a constant picture: a vertex has thousands of entries
    features = torch.zeros(5, MAX_RUN**2 + 1)
    lattice = build_lattice(features, [1] * 5, MAX_RUN**2 + 1, 1)
    assert len(lattice.splat) == 3
    assert max(int(matrix.offsets.diff().max()) for matrix in lattice.splat) == MAX_RUN
    single = build_lattice(features[:, :1], [1] * 5, 1, 1)
    one = single.filter(torch.ones(1, 1)).item()
    np.testing.assert_allclose(lattice.filter(torch.ones(MAX_RUN**2 + 1, 1)), one * (MAX_RUN**2 + 1), rtol=1e-5)


def test_a_sparse_matrix_is_its_dense_one():
    matrix = SparseMatrix(
        columns=torch.tensor([0, 2, 1], dtype=torch.int32),
        offsets=torch.tensor([0, 2, 2, 3, 3], dtype=torch.int32),
        weights=torch.tensor([2.0, 3.0, 5.0]),
    )
    dense = torch.tensor([[2.0, 0, 3], [0, 0, 0], [0, 5, 0], [0, 0, 0]])
    values = torch.arange(6.0).view(3, 2)
    assert torch.equal(matrix @ values, dense @ values)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_update_reads_nothing_back_from_the_device(device):
    # fake tensors of the device have shapes but no values: whatever asked for a value would raise
    image = batch([picture()])
    kernels = TorchCRF(RELEASED, "cpu").kernels(image)
    with FakeTensorMode():

        def fake(value):
            if isinstance(value, torch.Tensor):
                return torch.empty(value.shape, dtype=value.dtype, device=device)
            if isinstance(value, tuple):
                return tuple(map(fake, value))
            if dataclasses.is_dataclass(value):
                return type(value)(
                    **{field.name: fake(getattr(value, field.name)) for field in dataclasses.fields(value)}
                )
            return value

        log_p = torch.empty(40 * 50, 1, 5, device=device)
        q = mean_field_update(log_p, [fake(kernel) for kernel in kernels], log_p)
        assert (q.shape, q.dtype, q.device.type) == ((40 * 50, 1, 5), torch.float32, device)
        with pytest.raises(DataDependentOutputException):
            q.max().item()


@pytest.mark.parametrize("stride", [1, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (17, 25), (20, 31)])
def test_upsampling_is_that_of_the_logits(size, stride):
    logits = np.random.default_rng(0).normal(size=(3, grid_size(size[0], stride), grid_size(size[1], stride)))
    logits = logits.astype(np.float32)
    upsampled = upsample(batch([logits]), *size, stride)[:, :, 0].permute(2, 0, 1)
    np.testing.assert_allclose(upsampled, upsample_on_the_cpu(logits, *size, aligned(stride)), atol=1e-6)


@pytest.mark.parametrize("params", [RELEASED, SMOOTHER])
@pytest.mark.parametrize("prune", [0, 1e-2])
def test_refine_agrees_with_the_refinement_on_the_cpu(prune, params):
    images = [picture(name, 120, 161) for name in PHOTOGRAPHS[:2]]
    logits = [logits_for(image, labels=21, seed=seed) for seed, image in enumerate(images)]
    refined = TorchCRF(params, "cpu").refine(batch(images), batch(logits), 8, prune)
    assert (refined.masks.dtype, refined.pixels.dtype) == (torch.uint8, torch.int64)
    assert (refined.confidence.dtype, refined.class_confidence.dtype) == (torch.float32, torch.float32)
    for index, image in enumerate(images):
        expected = refine_in_tiles(image, logits[index], aligned(8), DenseCRF(params, backend="pydensecrf"))
        assert (refined.masks[index].numpy() == expected.mask).mean() >= 0.9999
        np.testing.assert_array_equal(refined.pixels[index], np.bincount(refined.masks[index].ravel(), minlength=21))
        assert refined.confidence[index].item() == pytest.approx(expected.confidence, abs=1e-3)
        np.testing.assert_allclose(refined.class_confidence[index], expected.class_confidence, atol=1e-2)


def test_a_label_is_dropped_only_where_no_picture_has_it():
    images = [picture("coffee"), picture("rocket")]
    logits = np.stack([logits_for(image, labels=4) for image in images])
    logits[:, 1] = -30  # nowhere
    logits[:, 2] = -30
    logits[1, 2, 2:, 3:] = 30  # in the second picture alone
    crf = TorchCRF(RELEASED, "cpu")
    refined, unpruned = (crf.refine(batch(images), torch.from_numpy(logits), 8, prune) for prune in (1e-2, 0))
    assert refined.pixels[:, 1].tolist() == [0, 0]
    assert refined.pixels[:, 2].tolist()[0] == 0
    assert refined.pixels[:, 2].tolist()[1] > 0
    assert refined.class_confidence[0, 1:3].tolist() == [0, 0]
    assert torch.equal(refined.masks, unpruned.masks)


def test_some_label_stays_where_all_are_weak():
    image = picture(height=20, width=30)
    refined = TorchCRF(RELEASED, "cpu").refine(batch([image]), torch.zeros(1, 182, 4, 5), 8, 1e-2)
    assert refined.pixels[0, 0] == 600  # the first of equals


def test_no_kernels_and_no_iterations_give_the_floored_probabilities():
    image = picture()
    probabilities = probabilities_for(image)
    probabilities[:, 0, 0] = (1, 0, 0, 0, 0)
    floored = np.maximum(probabilities, 1e-5)
    floored /= floored.sum(axis=0)
    for params in (CRFParams(iterations=0), CRFParams(gaussian_weight=0, bilateral_weight=0)):
        np.testing.assert_allclose(posterior_of_one(params, image, probabilities), floored, rtol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5])
def test_what_is_no_probability_is_refused_with_its_place(value):
    image = picture()
    probabilities = batch([probabilities_for(image)] * 2)
    probabilities[1, 2, 23, 49] = value
    with pytest.raises(CRFError, match=f"label 2 at row 23, column 49 of image 1 of the batch is {value}"):
        TorchCRF(RELEASED, "cpu").posterior(batch([image] * 2), probabilities)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused_with_their_place(value):
    image = picture()
    logits = batch([logits_for(image)])
    logits[0, 3, 1, 2] = value
    with pytest.raises(CRFError, match=f"label 3 at grid row 1, column 2 of image 0 of the batch is {value}"):
        TorchCRF(RELEASED, "cpu").refine(batch([image]), logits, 8, 1e-2)


@pytest.mark.parametrize(
    ("images", "probabilities", "message"),
    [
        (torch.zeros(4, 6, 3, dtype=torch.uint8), torch.ones(1, 2, 4, 6), "takes images"),
        (torch.zeros(1, 4, 6, 4, dtype=torch.uint8), torch.ones(1, 2, 4, 6), "takes images"),
        (torch.zeros(1, 4, 6, 3), torch.ones(1, 2, 4, 6), "takes images"),
        (torch.zeros(0, 4, 6, 3, dtype=torch.uint8), torch.ones(0, 2, 4, 6), "takes images"),
        (torch.zeros(1, 4, 6, 3, dtype=torch.uint8), torch.ones(1, 2, 6, 4), "sizes must agree"),
        (torch.zeros(1, 4, 6, 3, dtype=torch.uint8), torch.ones(2, 2, 4, 6), "sizes must agree"),
        (torch.zeros(1, 4, 6, 3, dtype=torch.uint8), torch.ones(2, 4, 6), "takes probabilities"),
        (torch.zeros(1, 4, 6, 3, dtype=torch.uint8), torch.ones(1, 0, 4, 6), "takes probabilities"),
        (torch.zeros(1, 4, 6, 3, dtype=torch.uint8), torch.ones(1, 2, 4, 6, dtype=torch.int32), "takes probabilities"),
    ],
)
def test_wrong_shapes_and_types_are_refused(images, probabilities, message):
    with pytest.raises(CRFError, match=message):
        TorchCRF(RELEASED, "cpu").posterior(images, probabilities)


@pytest.mark.parametrize(
    ("logits", "prune", "message"),
    [
        (torch.zeros(1, 2, 5, 4), 0, "take logits"),
        (torch.zeros(2, 2, 4, 5), 0, "take logits"),
        (torch.zeros(1, 257, 4, 5), 0, "take logits"),
        (torch.zeros(2, 4, 5), 0, "take logits"),
        (torch.zeros(1, 2, 4, 5, dtype=torch.int32), 0, "float type"),
        (torch.zeros(1, 2, 4, 5), -0.1, "prune"),
        (torch.zeros(1, 2, 4, 5), float("nan"), "prune"),
    ],
)
def test_wrong_logits_and_settings_are_refused(logits, prune, message):
    with pytest.raises(CRFError, match=message):
        TorchCRF(RELEASED, "cpu").refine(torch.zeros(1, 20, 30, 3, dtype=torch.uint8), logits, 8, prune)


def test_pictures_beyond_the_lattice_are_refused():
    crf = TorchCRF(CRFParams(gaussian_xy=0.1), "cpu")
    with pytest.raises(CRFError, match="standard deviations"):
        crf.posterior(torch.zeros(1, 1, 4000, 3, dtype=torch.uint8), torch.ones(1, 2, 1, 4000))
    with pytest.raises(CRFError, match="more than"):
        build_lattice(torch.zeros(5, 1), [2500.0] * 5, 1, 2**20)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is there")
@pytest.mark.parametrize("params", [RELEASED, SMOOTHER])
def test_cuda_agrees_with_the_cpu_reproduces_its_bits_and_never_waits_between_updates(params):
    images = batch([picture(name, 150, 201) for name in PHOTOGRAPHS])
    probabilities = batch([probabilities_for(image, 21) for image in images.numpy()])
    crf = TorchCRF(params, "cuda")
    posterior = crf.posterior(images, probabilities)
    assert torch.equal(crf.posterior(images, probabilities), posterior)
    np.testing.assert_allclose(
        posterior.cpu(), TorchCRF(params, "cpu").posterior(images, probabilities), rtol=0, atol=1e-4
    )
    for index in range(len(images)):
        one = crf.posterior(images[index : index + 1], probabilities[index : index + 1])
        assert torch.equal(one[0], posterior[index])
    kernels = crf.kernels(images.cuda())
    log_p = probabilities.cuda().flatten(2).permute(2, 0, 1).contiguous().log()
    torch.cuda.set_sync_debug_mode("error")
    try:
        mean_field_update(log_p, kernels, log_p.softmax(dim=-1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
