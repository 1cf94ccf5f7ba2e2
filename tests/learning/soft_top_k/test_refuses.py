"""What the soft top-k refuses, and what it says then."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from smartc import UserError, soft_top_k
from tests.support.soft_top_k_by_hand import LONG

GOOD = torch.arange(4.0)


def with_one(value: float, units: int = 4) -> Tensor:
    """Return ones, but the second."""
    scores = torch.ones(units)
    scores[1] = value
    return scores


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: soft_top_k(GOOD.long(), 1, 1.0),
            "soft_top_k: the scores are torch.int64. Give floating-point scores.",
        ),
        (
            lambda: soft_top_k(GOOD, 1, 1.0, dim=1),
            "soft_top_k: dim is 1 for scores of shape (4,). Give None for one budget, or -1 for one per row of the"
            " last axis.",
        ),
        (
            lambda: soft_top_k(GOOD, 1, 1.0, GOOD[1:]),
            "soft_top_k: cost has shape (3,), the scores (4,). Give a cost for each score.",
        ),
        (
            lambda: soft_top_k(GOOD.view(2, 2), 1, 1.0, dim=-1, start=torch.zeros(3, dtype=torch.int64)),
            "soft_top_k: start has shape (3,), type torch.int64. Give a floating-point tensor of shape (2,) that"
            " requires no gradient.",
        ),
        (
            lambda: soft_top_k(GOOD, 1, 1.0, start=torch.zeros((), requires_grad=True)),
            "soft_top_k: start has shape (), type torch.float32, requires a gradient. Give a floating-point tensor of"
            " shape () that requires no gradient.",
        ),
        (
            lambda: soft_top_k(GOOD, torch.ones(2), 1.0),
            "soft_top_k: k has shape (2,). Give one number.",
        ),
    ],
)
def test_refuses_wrong_tensors(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize("units", [4, LONG])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda n: (with_one(math.nan, n), 1, 1.0), "1 of {n} scores are not finite, the first is nan"),
        (lambda n: (with_one(math.inf, n), 1, 1.0), "1 of {n} scores are not finite, the first is inf"),
        (lambda n: (with_one(-math.inf, n), 1, 1.0), "1 of {n} scores are not finite, the first is -inf"),
        (
            lambda n: (with_one(2, n), 1, 1.0, with_one(-3, n)),
            "1 of {n} costs are not positive and finite, the first is -3",
        ),
        (
            lambda n: (with_one(2, n), 1, 1.0, with_one(0, n)),
            "1 of {n} costs are not positive and finite, the first is 0",
        ),
    ],
)
def test_refuses_wrong_values(units: int, arguments: Callable[[int], tuple[Any, ...]], message: str) -> None:
    with pytest.raises(UserError) as error:
        soft_top_k(*arguments(units))
    assert str(error.value) == f"soft_top_k: {message.format(n=units)}. Look for where they come from."


@pytest.mark.parametrize("units", [4, LONG])
@pytest.mark.parametrize("amount", [-1.0, 20000.5, math.nan])
def test_refuses_a_budget_out_of_range(units: int, amount: float) -> None:
    with pytest.raises(UserError) as error:
        soft_top_k(torch.ones(units), amount, 1.0)
    fact = f"k is {amount:g}, all units together amount to {units:g}"
    assert str(error.value) == f"soft_top_k: {fact}. Give a k from 0 to {units:g}."


@pytest.mark.parametrize("units", [4, LONG])
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_temperature_out_of_range(units: int, temperature: float) -> None:
    with pytest.raises(UserError) as error:
        soft_top_k(torch.ones(units), 1, temperature)
    fix = "Give one from 1e-30 to 1e+30, in units of score."
    assert str(error.value) == f"soft_top_k: the temperature is {temperature:g}. {fix}"
