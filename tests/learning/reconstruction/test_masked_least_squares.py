"""Masked least squares: what lstsq finds row by row, by factors and by conjugate gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from smartc.learning.reconstruction import masked_least_squares
from smartc.learning.reconstruction.conjugate_gradients import masked_conjugate_gradients
from smartc.learning.reconstruction.masked_least_squares import FLOOR, NormalEquations, solve_on_supports

# The floor moves solutions of well conditioned systems by about itself.
TOLERANCE = 1e3 * FLOOR


def problem(columns: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs (2 groups, 200 rows, K), what outputs lack (2, 200, 5), and supports of every kind."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(2, 200, columns, generator=generator, dtype=torch.float64) + 1
    lacking = torch.randn(2, 200, 5, generator=generator, dtype=torch.float64) + inputs[..., :5]
    support = torch.rand(2, 5, columns, generator=generator) < 0.5
    support[0, 1], support[0, 2], support[1, 1] = False, True, support[1, 0]
    return inputs, lacking, support


def summed(inputs: Tensor, lacking: Tensor) -> NormalEquations:
    """Return the sums, added in two parts."""
    equations = NormalEquations.empty(2, lacking.shape[2], inputs.shape[2], inputs.device)
    equations.add(inputs[:, :70], lacking[:, :70])
    equations.add(inputs[:, 70:], lacking[:, 70:])
    return equations


def by_lstsq(inputs: Tensor, lacking: Tensor, support: Tensor, ridge: float, intercept: bool) -> Tensor:
    """Return the ridge solution of each row from its stacked system."""
    expected = torch.zeros(*support.shape[:2], support.shape[2] + 1, dtype=torch.float64)
    for group, rows in enumerate(support):
        x = inputs[group]
        spread = (x - x.mean(0) if intercept else x).square().sum(0).mean()
        ones = torch.ones(len(x), 1, dtype=torch.float64)
        for row, kept in enumerate(rows):
            left = torch.cat([x[:, kept], ones], dim=1) if intercept else x[:, kept]
            damping = torch.diag(torch.cat([torch.full((int(kept.sum()),), 1.0), torch.zeros(int(intercept))]))
            left = torch.cat([left, damping.double() * (ridge * spread).sqrt()])
            right = torch.cat([lacking[group, :, row], torch.zeros(len(damping), dtype=torch.float64)])
            found = torch.linalg.lstsq(left, right[:, None]).solution[:, 0]
            expected[group, row, :-1][kept] = found[: int(kept.sum())]
            if intercept:
                expected[group, row, -1] = found[-1]
    return expected


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("columns", [9, 70])
def test_solves_what_lstsq_solves(columns: int, ridge: float, intercept: bool) -> None:
    inputs, lacking, support = problem(columns)
    found = summed(inputs, lacking).solve(support, ridge, intercept)
    expected = by_lstsq(inputs, lacking, support, ridge, intercept)
    assert torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("columns", [9, 70])
def test_conjugate_gradients_find_the_same(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, lacking, support = problem(columns)
    gram = inputs.transpose(1, 2) @ inputs
    right = lacking.transpose(1, 2) @ inputs
    found = masked_conjugate_gradients(gram, right, support, tolerance=1e-13, steps=500)
    monkeypatch.setattr(masked_least_squares, "BATCHED_COLUMNS", 9)
    direct = solve_on_supports(gram, right, support)
    assert torch.allclose(found, direct, rtol=1e-9, atol=1e-9)
    assert not found[~support].any()
    assert not direct[~support].any()


def test_many_supports_of_many_columns_take_conjugate_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, lacking, support = problem(70)
    gram, right = inputs.transpose(1, 2) @ inputs, lacking.transpose(1, 2) @ inputs
    direct = solve_on_supports(gram, right, support)
    monkeypatch.setattr(masked_least_squares, "STEPS", 0)
    assert torch.allclose(solve_on_supports(gram, right, support), direct, rtol=1e-4, atol=1e-4)
    assert not torch.equal(solve_on_supports(gram, right, support), direct)


def test_errors_are_those_of_the_rows() -> None:
    inputs, lacking, _ = problem(9)
    equations, change = summed(inputs, lacking), torch.randn(2, 5, 10, dtype=torch.float64)
    left = lacking - inputs @ change[..., :-1].transpose(1, 2) - change[:, None, :, -1]
    assert torch.allclose(equations.error(change), left.square().sum(1))
    assert equations.rows == 200


@pytest.mark.parametrize("seed", range(5))
def test_a_shortened_change_never_leaves_more_than_none(seed: int) -> None:
    fit, held_out = summed(*problem(9, seed)[:2]), summed(*problem(9, seed + 100)[:2])
    change = fit.solve(problem(9, seed)[2], 0.0, True) * torch.randn(2, 5, 1, dtype=torch.float64)
    shortened = held_out.shortened(change)
    assert (held_out.error(shortened) <= held_out.energy * (1 + 1e-12)).all()
    assert (held_out.error(shortened) <= held_out.error(change) * (1 + 1e-12)).all()


def test_inputs_that_are_never_active_change_nothing() -> None:
    inputs, lacking, support = problem(9)
    inputs[0] = 0
    inputs[1, :, 4] = 7
    change = summed(inputs, lacking).solve(support, 1e-2, True)
    assert change.isfinite().all()
    assert not change[0, :, :-1].any()
    assert change[1, :, 4].abs().max() < 1e-6
