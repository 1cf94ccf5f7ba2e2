"""Weights that the graph computes: removed exactly, or kept with the reason, and never wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

import smartc

REASON = "divides its weight by a length that other channels have a part in"


class Computed(nn.Module):
    """Compute a weight by a formula."""

    def __init__(self, formula: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, weight: Tensor) -> Tensor:
        """Map a weight to one of its shape."""
        return self.formula(weight)


def _network(kind: type[nn.Module], change: Callable[[nn.Module], object]) -> tuple[nn.Module, Tensor]:
    """Return a network whose layer in the middle has a computed weight, and inputs of it."""
    torch.manual_seed(0)
    linear = kind is nn.Linear
    first, last = (nn.Linear(12, 32), nn.Linear(32, 8)) if linear else (nn.Conv2d(3, 32, 3), nn.Conv2d(32, 8, 3))
    middle = kind(32, 32) if linear else kind(32, 32, 3)
    change(middle)
    network = nn.Sequential(first, nn.ReLU(), middle, nn.ReLU(), last).eval()
    return network, torch.randn(2, 12) if linear else torch.randn(2, 3, 12, 12)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d, nn.Linear])
@pytest.mark.parametrize("dim", [None, 0, 1])
def test_lengths_that_others_have_a_part_in_stay(kind: type[nn.Module], dim: int | None) -> None:
    network, inputs = _network(kind, lambda layer: weight_norm(layer, dim=dim))
    compiled = smartc.compile(network, inputs, target="npu-8x8", backends=())
    outputs = 1 if kind is nn.ConvTranspose2d else 0
    assert all(proof.passed for proof in compiled.report.verify)
    assert bool(compiled.plan.tensors) is (dim == outputs)
    assert (REASON in compiled.report.layers[0].reason) is (dim != outputs)


FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda w: w.softmax(1),
    "cosine": torch.cos,
    "exponential": torch.exp,
    "shifted": lambda w: w + 0.1,
    "standardised": lambda w: (w - w.mean()) / w.std(),
    "standardised by rows": lambda w: (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True),
    "normalised": lambda w: w / w.norm(),
    "normalised by columns": lambda w: w / w.norm(dim=1, keepdim=True),
    "scaled by the largest": lambda w: torch.tanh(w) / torch.tanh(w).abs().max(),
    "quantised": lambda w: torch.round(w / (w.abs().amax() / 127)) * (w.abs().amax() / 127),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_is_never_wrong(name: str) -> None:
    change = Computed(FORMULAS[name])
    network, inputs = _network(nn.Conv2d, lambda layer: parametrize.register_parametrization(layer, "weight", change))
    report = smartc.compile(network, inputs, target="npu-8x8", backends=()).report
    assert all(proof.passed for proof in report.verify)
    assert "stays, because it meets" in report.layers[0].reason
