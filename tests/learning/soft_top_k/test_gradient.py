"""The gradient of the soft top-k: that of finite differences, through the threshold too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from smartc import soft_top_k
from tests.support.soft_top_k_by_hand import LONG, spent

# What finite differences of 1e-6 leave in float64.
GRADIENT = 1e-5


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02])
@pytest.mark.parametrize("costly", [False, True])
@pytest.mark.parametrize("shape", [(13,), (3, 5), LONG])
def test_gradient_goes_through_the_threshold(temperature: float, costly: bool, shape: tuple[int, ...] | int) -> None:
    """Of many scores, only the first are let vary."""
    generator = torch.Generator().manual_seed(5)
    size = (shape,) if isinstance(shape, int) else shape
    scores = torch.randn(size, generator=generator, dtype=torch.float64)
    cost = torch.rand(size, generator=generator, dtype=torch.float64) + 0.1 if costly else None
    amount = 0.4 * (scores.numel() if cost is None else spent(cost))
    free = torch.randn(min(13, scores.numel()), generator=generator, dtype=torch.float64, requires_grad=True)

    def some(free: Tensor) -> Tensor:
        """Return the result where the first scores are the free ones."""
        whole = torch.cat([free, scores.flatten()[len(free) :]]).view(size)
        return soft_top_k(whole, amount, temperature, cost).flatten()[:40]

    assert torch.autograd.gradcheck(some, free, atol=GRADIENT)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02])
@pytest.mark.parametrize("costly", [False, True])
def test_gradient_of_rows(temperature: float, costly: bool) -> None:
    generator = torch.Generator().manual_seed(6)
    scores = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    cost = torch.rand(6, 4, generator=generator, dtype=torch.float64) + 0.5 if costly else None
    assert torch.autograd.gradcheck(lambda x: soft_top_k(x, 1.7, temperature, cost, dim=-1), scores, atol=GRADIENT)


@pytest.mark.parametrize("units", [50, LONG])
@pytest.mark.parametrize("costly", [False, True])
def test_gradient_shifts_no_cost(units: int, costly: bool) -> None:
    """Moving along the gradient spends nothing: it is at right angles to the costs, in terms of the result."""
    generator = torch.Generator().manual_seed(7)
    scores = torch.randn(units, generator=generator, requires_grad=True)
    cost = torch.rand(units, generator=generator) + 0.1 if costly else torch.ones(units)
    soft = soft_top_k(scores, 0.3 * spent(cost), 0.1, cost if costly else None)
    (gradient,) = torch.autograd.grad(soft, scores, cost)
    assert gradient.abs().max() < 1e-5
