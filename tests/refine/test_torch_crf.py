"""The dense CRF in PyTorch operators, with which the benchmarks compare, gives the same masks."""

import numpy as np
import pytest
import torch

from benchmarks.permutohedral_torch import MAX_RUN, build_lattice
from benchmarks.torch_crf import TorchCRF
from pipeline.geometry import aligned
from pipeline.refine import refine_in_tiles
from pipeline.refine.crf import CRFParams, DenseCRF
from tests.helpers.photographs import PHOTOGRAPHS, RELEASED, SMOOTHER, logits_for, picture


@pytest.mark.parametrize("params", [RELEASED, SMOOTHER])
def test_refine_agrees_with_the_refinement_on_the_cpu(params: CRFParams) -> None:
    images = [picture(name, 120, 161) for name in PHOTOGRAPHS[:2]]
    logits = [logits_for(image, labels=21, seed=seed) for seed, image in enumerate(images)]
    batch = torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(logits))
    refined = TorchCRF(params, "cpu").refine(*batch, 8, 1e-2)
    for index, image in enumerate(images):
        expected = refine_in_tiles(image, logits[index], aligned(8), DenseCRF(params))
        assert (refined.masks[index].numpy() == expected.mask).mean() >= 0.9999


def test_vertices_with_many_points_are_summed_in_pieces() -> None:
    # a constant picture: a vertex has thousands of entries
    features = torch.zeros(5, MAX_RUN**2 + 1)
    lattice = build_lattice(features, [1] * 5, MAX_RUN**2 + 1, 1)
    assert len(lattice.splat) == 3
    single = build_lattice(features[:, :1], [1] * 5, 1, 1)
    one = single.filter(torch.ones(1, 1)).item()
    np.testing.assert_allclose(lattice.filter(torch.ones(MAX_RUN**2 + 1, 1)), one * (MAX_RUN**2 + 1), rtol=1e-5)
