"""Two processes that share each batch take the steps that one process takes with the whole of it."""

import dataclasses

import numpy as np
import pytest
import torch

from pipeline.training.examples import share
from pipeline.training.recipe import Recipe
from tests.helpers.learner import learn
from tests.helpers.servers import free_port

RECIPE = Recipe(iterations=3, batch=5, crop=33, base_lr=0.01, weight_decay=5e-4)  # an odd batch: 2 pictures and 3
RECIPES = {
    "plain": RECIPE,
    "accumulated": dataclasses.replace(RECIPE, accumulate=2, clip_norm=1.0),
    "scales": dataclasses.replace(RECIPE, scales=(1.0, 0.5)),
    "averaged": dataclasses.replace(RECIPE, ema_decay=0.5),
}
TRAINED_NORMS = dataclasses.replace(RECIPE, batch=4, freeze_bn=False)
NORMS = {"norms": TRAINED_NORMS, "averaged norms": dataclasses.replace(TRAINED_NORMS, ema_decay=0.5)}


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Where it is saved what one process and what two have learned."""
    folder = tmp_path_factory.mktemp("learned")
    learn(0, 1, RECIPES, "", folder)
    address = f"tcp://127.0.0.1:{free_port()}"
    recipes = RECIPES | NORMS
    torch.multiprocessing.spawn(learn, args=(2, recipes, address, str(folder)), nprocs=2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", NORMS)
def test_a_checkpoint_holds_what_every_process_goes_on_with(learned, recipe):
    first, second = (torch.load(learned / f"{recipe}-2-{rank}.pt")["model"] for rank in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_learn_what_one_learns(learned, recipe):
    alone, first, second = (torch.load(learned / f"{recipe}-{name}.pt") for name in ("1-0", "2-0", "2-1"))
    assert first["losses"] == second["losses"]
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=1e-3)
    assert alone["losses"][0] != pytest.approx(alone["losses"][-1], rel=1e-3)
    for name, value in alone["model"].items():
        assert torch.equal(first["model"][name], second["model"][name]), name
        torch.testing.assert_close(first["model"][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_shares_are_the_batch():
    draws = [number for rank in range(3) for number in share(4, Recipe(batch=10), rank, 3)]
    assert draws == list(range(40, 50))
    assert [len(share(0, Recipe(batch=10), rank, 3)) for rank in range(3)] == [3, 3, 4]
