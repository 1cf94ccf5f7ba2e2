"""Products: one price however they are spelled, heads and stored sides told apart, tied weights counted once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smartc.analysis.analyse import analysed
from smartc.analysis.find_layers import Layers
from smartc.frontend.capture import trace
from smartc.targets.latency import LayerCosts
from smartc.targets.target import load_target
from smartc.targets.workload import Operand, OpKind
from tests.support.product_networks import build

NPU = load_target("npu-8x8")


def priced(module: nn.Module, inputs: Any) -> tuple[Layers, LayerCosts]:
    """Return the layers of a network and what they cost."""
    layers = analysed(trace(module.eval(), inputs))
    return layers, NPU.price(layers.workload(NPU, layers.full_sizes))


def products(layers: Layers, costs: LayerCosts) -> list[tuple[float, int]]:
    """Return the cycles and multiply-accumulates of each product."""
    rows = enumerate(layers.rows)
    return [(float(costs.total[at]), int(costs.macs[at])) for at, row in rows if row.shape.kind == OpKind.MATRIX]


class Product(nn.Module):
    """A linear layer, in one of several spellings."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.weight, self.bias = nn.Parameter(torch.randn(24, 40)), nn.Parameter(torch.randn(40))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 24) to (N, 40)."""
        if self.spelling == "linear":
            return nn.functional.linear(x, self.weight.t(), self.bias)
        if self.spelling == "addmm":
            return torch.addmm(self.bias, x, self.weight)
        if self.spelling == "einsum":
            return torch.einsum("nc,cd->nd", x, self.weight)
        if self.spelling == "turned":
            return torch.mm(self.weight.t(), x.t()).t()
        return getattr(torch, self.spelling)(x, self.weight)


@pytest.mark.parametrize("spelling", ["linear", "addmm", "mm", "matmul", "einsum", "turned"])
def test_a_product_by_a_stored_weight_costs_the_same_in_every_spelling(spelling: str) -> None:
    layers, costs = priced(Product(spelling), torch.randn(2, 24))
    assert int(costs.macs.sum()) == 24 * 40
    assert int(costs.weight_bytes.sum()) == 24 * 40
    _, linear = priced(nn.Linear(24, 40), torch.randn(2, 24))
    assert products(layers, costs) == [(float(linear.total[0]), 24 * 40)]


@pytest.mark.parametrize("spelling", ["matmul", "einsum", "batched"])
def test_attention_costs_the_same_in_every_spelling(spelling: str) -> None:
    fused, written = (priced(*build(f"decoder_{name}")) for name in ("fused", spelling))
    assert products(*fused) == products(*written)
    names = [row.name for row in fused[0].rows if row.name.startswith("attention.scaled")]
    start = "attention.scaled_dot_product_attention"
    assert names == [f"{start}.scores", f"{start}.softmax", f"{start}.values"]
    softmax = [
        float(costs.total[at])
        for layers, costs in (fused, written)
        for at, row in enumerate(layers.rows)
        if "softmax" in (row.op, row.shape.op)
    ]
    assert spelling == "batched" or softmax[0] == softmax[1]


def test_keys_and_values_are_activations_and_a_tied_weight_counts_once() -> None:
    layers, costs = priced(*build("decoder_fused"))
    operands = {row.name: row.shape.operand for row in layers.rows}
    size = dict(zip(operands, costs.weight_bytes.tolist(), strict=True))
    assert operands["attention.scaled_dot_product_attention.scores"] == Operand.ACTIVATION
    assert size["attention.scaled_dot_product_attention.values"] == 0
    assert (operands["embed"], operands["head"]) == (Operand.WEIGHT, Operand.SHARED)
    assert (size["embed"], size["head"]) == (50 * 32, 0)


def test_the_width_of_values_is_their_own() -> None:
    class Wide(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v)

    q, k, v = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 16)
    _, costs = priced(Wide(), (q, k, v))
    assert costs.macs.tolist() == [3 * 5 * 8 * 7, 0, 3 * 5 * 7 * 16]


def test_a_product_of_several_is_one_layer_for_each_pair() -> None:
    class Chain(nn.Module):
        def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
            return torch.einsum("...ij,...jk,...kl", x, y, z)

    layers, costs = priced(Chain(), (torch.randn(2, 4, 5), torch.randn(2, 5, 6), torch.randn(2, 6, 7)))
    assert [row.shape.part for row in layers.rows] == ["product1", "product2"]
    assert costs.macs.tolist() == [4 * 5 * 6, 4 * 6 * 7]


def test_vectors_have_one_row() -> None:
    class Vectors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(24))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    _, costs = priced(Vectors(), torch.randn(2, 24))
    assert (costs.macs.tolist(), costs.weight_bytes.tolist()) == ([24], [3 * 64])
