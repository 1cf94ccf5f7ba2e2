"""Random networks build, repeat, stay small, and depend on their input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from tests.support.oracle import relative_error
from tests.support.random_networks import STEPS, TAILS, Recipe, random_recipe, recipes


@settings(max_examples=40, deadline=None, derandomize=True)
@given(recipes())
def test_recipe_repeats(recipe: Recipe) -> None:
    network, inputs = recipe.build()
    again, same = recipe.build()
    with torch.no_grad():
        assert relative_error(network(*inputs), again(*same)) == 0
    assert sum(parameter.numel() for parameter in network.parameters()) < 300_000


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_step_lets_the_input_through(step: str, seed: int) -> None:
    network, inputs = Recipe(("convolution", step), TAILS[seed], seed).build()
    with torch.no_grad():
        assert relative_error(network(*inputs), network(inputs[0].flip(0))) > 1e-3


def test_seed_decides_the_recipe() -> None:
    assert random_recipe(3) == random_recipe(3)
    assert random_recipe(3) != random_recipe(4)
